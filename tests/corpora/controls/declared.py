"""Gradients that are not the derivative of the loss, and are meant to be so.

Declared with `expect`.
"""

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, classified, dense, layer_case
from tests.corpora.corpus import Case, compiled, features, integers, seeded
from tests.corpora.mutants import planted


def expecting(**patterns):
    """Options that declare `kind="pattern"` pairs the other way round, as `expect` wants them."""
    return {"expect": {pattern: kind for kind, pattern in patterns.items()}}


class StopGradient(layers.Layer):
    def call(self, x):
        return ops.stop_gradient(x)


class Rounded(layers.Layer):
    """Rounds to halves, with the gradient of the identity."""

    def call(self, x):
        return x + ops.stop_gradient(ops.round(2 * x) / 2 - x)


class Reversal(layers.Layer):
    """Hands values on and turns gradients around."""

    def call(self, x):
        return planted.with_gradient(ops.copy, lambda upstream, _: -upstream)(x)


def detached_features(seed):
    """A linear probe on a trunk that it must not train; the trunk has a loss of its own."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    probe = layers.Dense(3, name="probe")(StopGradient(name="detach")(trunk))
    model = compiled(
        keras.Model(x, {"own": layers.Dense(2, name="own")(trunk), "probe": probe}),
        {"own": "mse", "probe": "mse"},
    )
    return model, features(rng, 16, 6), {"own": features(rng, 16, 2), "probe": features(rng, 16, 3)}


def domain_adversarial(seed):
    """The trunk is to please the task's head and to confuse the domain's."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    task = layers.Dense(3, activation="softmax", name="task")(trunk)
    domain = layers.Dense(1, activation="sigmoid", name="domain")(Reversal(name="reversal")(trunk))
    model = compiled(
        keras.Model(x, [task, domain]), ["sparse_categorical_crossentropy", "binary_crossentropy"]
    )
    return model, features(rng, 16, 6), [integers(rng, 3, 16), integers(rng, 2, 16, 1)]


class BinaryDense(layers.Dense):
    """A dense layer with binarized weights and a straight-through gradient."""

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        signs = 0.4 * ops.where(kernel >= 0, ops.ones_like(kernel), -ops.ones_like(kernel))
        return self.activation(
            ops.matmul(x, kernel + ops.stop_gradient(signs - kernel)) + self.bias
        )


class Codebook(layers.Layer):
    """The quantizer of a VQ-VAE."""

    def build(self, shape):
        self.codebook = self.add_weight(
            shape=(5, shape[-1]), initializer="random_normal", name="codebook"
        )

    def call(self, x):
        codebook = ops.convert_to_tensor(self.codebook)
        distances = ops.sum((x[:, None] - codebook[None]) ** 2, axis=-1)
        nearest = ops.take(codebook, ops.argmin(distances, axis=-1), axis=0)
        learn, commit = (ops.stop_gradient(x) - nearest) ** 2, (x - ops.stop_gradient(nearest)) ** 2
        self.add_loss(ops.mean(learn) + 0.25 * ops.mean(commit))
        return x + ops.stop_gradient(nearest - x)


def vector_quantizer(seed):
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    code = Codebook(name="quantizer")(layers.Dense(3, activation="tanh", name="encoder")(x))
    model = compiled(keras.Model(x, layers.Dense(6, name="decoder")(code)))
    data = features(rng, 16, 6)
    return model, data, data


def siamese(seed):
    """SimSiam: each leg learns from the other, which stands still."""

    class Alike(layers.Layer):
        def call(self, a, b):
            self.add_loss(ops.mean(ops.square(a - ops.stop_gradient(b))))
            return a

    rng = seeded(seed)
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    leg = layers.Dense(4, activation="tanh", name="leg")
    predicted = layers.Dense(4, name="predictor")(leg(first))
    model = compiled(
        keras.Model([first, second], Alike(name="alike")(predicted, leg(second))), None
    )
    return model, [features(rng, 16, 6), features(rng, 16, 6)], None


def quantized_in_the_middle(seed):
    """A frozen int8 layer rounds what it is given and sends back the gradient of a layer that
    does not.
    """
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    below = layers.Dense(8, activation="tanh", name="below")(x)
    frozen = layers.Dense(8, name="frozen")
    model, y = classified(rng, x, frozen(below))
    frozen.quantize("int8")
    frozen.trainable = False
    return compiled(model, "sparse_categorical_crossentropy"), features(rng, 8, 6), y


def spectral(seed):
    return around(
        seed,
        (6,),
        dense(),
        lambda: layers.SpectralNormalization(layers.Dense(8, activation="tanh"), name="spectral"),
        dense(),
    )


BELOW = dense(8, name="below")

CASES = [
    layer_case(
        "declared_stop_gradient",
        (6,),
        BELOW,
        StopGradient,
        dense(name="above"),
        options=expecting(blocked="*below*"),
    ),
    layer_case(
        "declared_rounding",
        (6,),
        BELOW,
        Rounded,
        dense(name="above"),
        options=expecting(mismatch="*below*"),
    ),
    layer_case(
        "declared_reversal",
        (6,),
        BELOW,
        Reversal,
        dense(name="above"),
        options=expecting(mismatch="*below*"),
    ),
    layer_case(
        "declared_binary_weights",
        (6,),
        BELOW,
        lambda: BinaryDense(8, activation="tanh", name="binary"),
        options=expecting(mismatch="*binary/kernel"),
        note="only the binarized kernel is off; its bias and everything else is right",
    ),
    Case("declared_probe", detached_features, options=expecting(mismatch="*trunk*")),
    Case("declared_domain_adversarial", domain_adversarial, options=expecting(mismatch="*trunk*")),
    Case(
        "declared_vector_quantizer",
        vector_quantizer,
        options={"expect": {"*encoder*": "mismatch", "*codebook": "mismatch"}},
    ),
    Case("declared_siamese", siamese, options=expecting(mismatch="*leg*")),
    Case("declared_int8", quantized_in_the_middle, options=expecting(mismatch="*below*")),
    Case(
        "declared_spectral",
        spectral,
        options=expecting(mismatch="*spectral*kernel"),
        note="the power iteration's vectors count as constants",
    ),
]
