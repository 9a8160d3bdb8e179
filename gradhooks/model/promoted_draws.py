"""Random operations while a model is promoted: the same numbers as in training, in float64.

From one seed, a draw in float64 gives other numbers than one in float32. So
operations draw at the native dtype, and what they draw is widened.
"""

import contextlib

from keras import ops

from gradhooks.isolation import threads
from gradhooks.model import keras_internals
from gradhooks.model.dtypes import WIDE

# The operations of `keras.random` that take a dtype.
_OPERATIONS = ("normal", "uniform", "truncated_normal", "gamma", "beta", "binomial")


@contextlib.contextmanager
def patch_draws(model, floatx, switch, backend):
    """While open, random operations draw what training draws, and widen it.

    Args:
        model: The model, at its own precision.
        floatx: The user's `floatx`.
        switch: The `widening.Switch` of the promotion; off while numbers are drawn.
        backend: The backend module.
    """
    operations = _Operations(model, floatx, switch, backend)
    module = keras_internals.backend_module("random")
    draw_seed = module.draw_seed
    with threads.open_patcher() as patch:
        patch(module, "draw_seed", lambda seed: seed if ops.is_tensor(seed) else draw_seed(seed))
        for name in _OPERATIONS:
            draw = keras_internals.require(module, name, "draw the same noise as training")
            patch(module, name, operations.wrap(draw))
        patch(module, "dropout", operations.wrap_dropout(module.dropout))
        yield


class _Operations:
    """Wraps random operations, see `patch_draws`."""

    def __init__(self, model, floatx, switch, backend):
        self._floatx = floatx
        self._switch = switch
        self._backend = backend
        self._is_xla = keras_internals.is_xla(model)
        # id of a seed generator -> dtype at which its layer draws in training.
        self._dtypes = {}
        for layer in keras_internals.layers_of(model):
            for generator in keras_internals.seed_generators(layer):
                self._dtypes[id(generator)] = layer.compute_dtype

    def _native_dtype(self, seed):
        return self._dtypes.get(id(seed), self._floatx)

    def _draw_from(self, draw, seed):
        """Returns `draw(seed)`.

        From the same seed XLA draws other numbers than TensorFlow, and those
        are what training with XLA sees.
        """
        if not self._is_xla:
            return draw(seed)
        # The seed advances out here: a compiled function must not leave its tensors in a generator.
        return self._backend.call_with_xla(draw, keras_internals.draw_seed(seed))

    def wrap(self, draw):
        """Wraps an operation that takes a dtype and a seed."""

        def draw_native(*args, **kwargs):
            with self._switch.off():
                seed = kwargs.pop("seed", None)
                dtype = kwargs.pop("dtype", None)
                # Without a dtype a draw follows floatx, whatever its layer computes in; float64 is
                # what was promoted.
                if dtype is None:
                    native = self._floatx
                elif dtype == WIDE:
                    native = self._native_dtype(seed)
                else:
                    native = dtype

                def draw_once(seed):
                    return draw(*args, **kwargs, dtype=native, seed=seed)

                numbers = self._draw_from(draw_once, seed)
                return ops.cast(numbers, dtype or WIDE)

        return draw_native

    def wrap_dropout(self, dropout):
        """Wraps dropout, which has no dtype: it draws in that of its inputs."""

        def drop_out(inputs, rate, noise_shape=None, seed=None):
            if keras_internals.dtype_of(inputs) != WIDE:
                return dropout(inputs, rate, noise_shape, seed)
            with self._switch.off():
                ones = ops.ones(ops.shape(inputs), dtype=self._native_dtype(seed))

                def drop_ones(seed):
                    return dropout(ones, rate, noise_shape, seed)

                is_kept = ops.not_equal(self._draw_from(drop_ones, seed), 0)
            return ops.where(is_kept, inputs / (1 - rate), ops.zeros_like(inputs))

        return drop_out
