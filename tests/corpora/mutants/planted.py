"""How a defect is planted.

Functions whose gradient is wrong, and layers that have a place for them.

Every planted function follows the dtype of what it is given, so that it stays
wrong in the same way at every precision. Inside `healthy()` the same builders
return the honest function instead: each mutant has a twin that computes the
same loss with the right gradient.
"""

import contextlib

import keras
from keras import ops

_HEALTHY = [False]


@contextlib.contextmanager
def healthy():
    """While this is open, nothing that is built is planted.

    Mutants come out as their healthy twins.
    """
    before, _HEALTHY[0] = _HEALTHY[0], True
    try:
        yield
    finally:
        _HEALTHY[0] = before


def choose(wrong, right):
    """Returns `right` in a healthy twin and `wrong` otherwise.

    For use while building, not while calling.
    """
    return right if _HEALTHY[0] else wrong


def function(forward, rule):
    """Returns `forward`, whose gradient is what `rule` says.

    Args:
        forward: Maps tensors to one tensor.
        rule: `rule(upstream, *inputs)` returns the gradient for the first
            input, or a tuple with the gradients for the first few; the
            other inputs get none.
    """
    return choose(with_gradient(forward, rule), forward)


def with_gradient(forward, rule):
    """Returns what `function` returns, in a healthy twin too.

    In the backend's own words: Keras has no operation for it.
    """

    def all_gradients(upstream, tensors):
        gradients = rule(upstream, *tensors)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return gradients + (None,) * (len(tensors) - len(gradients))

    def on_tensorflow(*inputs):
        import tensorflow as tf

        @tf.custom_gradient
        def planted(*tensors):
            return forward(*tensors), lambda upstream: all_gradients(upstream, tensors)

        return planted(*map(tf.convert_to_tensor, inputs))

    def on_jax(*inputs):
        import jax

        @jax.custom_vjp
        def planted(*tensors):
            return forward(*tensors)

        planted.defvjp(
            lambda *tensors: (forward(*tensors), tensors),
            lambda tensors, upstream: all_gradients(upstream, tensors),
        )
        return planted(*map(ops.convert_to_tensor, inputs))

    return {"tensorflow": on_tensorflow, "jax": on_jax}[keras.backend.backend()]


def tensor(variable):
    """Returns the value of a variable: on TensorFlow Keras' own conversion hands variables on."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(variable)
    return ops.convert_to_tensor(variable)


def identity(rule):
    """Returns a function that hands its argument on, and whose gradient is `rule(upstream)`."""
    return function(ops.copy, lambda upstream, _: rule(upstream))


def scale(factor):
    """The identity with a gradient `factor` times too large: a constant lost in a backward pass."""
    return identity(lambda upstream: upstream * ops.cast(factor, upstream.dtype))


def stop():
    """`stop_gradient`: the value passes, the gradient does not."""
    return choose(ops.stop_gradient, honest)


def honest(x):
    """The place where nothing is planted."""
    return x


class Through(keras.layers.Layer):
    """Puts a planted function between two layers; it has no variables of its own."""

    def __init__(self, planted, **options):
        super().__init__(**options)
        self.planted = planted

    def call(self, inputs):
        return self.planted(inputs)


class Dense(keras.layers.Dense):
    """A dense layer with places for defects.

    On its input, kernel, product, bias and pre-activation.
    """

    def __init__(
        self,
        units,
        *,
        on_input=honest,
        on_kernel=honest,
        product=ops.matmul,
        on_bias=honest,
        on_output=honest,
        **options,
    ):
        super().__init__(units, **options)
        self.on_input, self.on_kernel, self.product = on_input, on_kernel, product
        self.on_bias, self.on_output = on_bias, on_output

    def call(self, inputs):
        product = self.product(self.on_input(inputs), self.on_kernel(tensor(self.kernel)))
        return self.activation(self.on_output(product + self.on_bias(tensor(self.bias))))


class Conv2D(keras.layers.Conv2D):
    """A convolution with places for defects: on its kernel and on its bias."""

    def __init__(self, filters, kernel_size, *, on_kernel=honest, on_bias=honest, **options):
        super().__init__(filters, kernel_size, **options)
        self.on_kernel, self.on_bias = on_kernel, on_bias

    def call(self, inputs):
        kernel = self.on_kernel(tensor(self.kernel))
        outputs = ops.conv(inputs, kernel, strides=self.strides, padding=self.padding)
        return self.activation(outputs + self.on_bias(tensor(self.bias)))
