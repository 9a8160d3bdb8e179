"""A compiled loop that evaluates the loss terms along a line through many parameters."""

import functools

import tensorflow as tf

from gradhooks.backends.tensorflow.execution import specify
from gradhooks.backends.tensorflow.parameters import specify_float64
from gradhooks.backends.tensorflow.replicas import distribute
from gradhooks.backends.tensorflow.row_loops import VECTOR, count_at_once, insert_loop


class LineLoop:
    """Evaluates the loss terms along a line through many parameters.

    Args:
        gradients: The `GradientProgram` whose trace holds the loss.
        state: Tensors; only their specifications matter here.
        batch: Nested tensors, likewise.
        strategy: A `tf.distribute.Strategy`, or None.
        heavy_above: See `LossProgram`.
    """

    def __init__(
        self,
        gradients,
        state,
        batch,
        strategy,
        heavy_above,
    ):
        self._gradients = gradients
        self._strategy = strategy
        self._arguments = specify_float64(gradients.shapes), specify(state), specify(batch)
        self._at_once = count_at_once(gradients.shapes, heavy_above)

    def order_rows(self, offsets):
        """Returns the order of evaluation, and the rows in this order as tensors."""
        return slice(None), (tf.constant(offsets, tf.float64),)

    @functools.cached_property
    def evaluate(self):
        """The compiled loop, see `distribute`; traced when first used.

        Its common arguments are values, state, batch and direction, its rows
        the offsets.
        """
        gradients, forward = self._gradients, self._gradients.forward
        count = len(gradients.shapes)
        moving = forward.downstream(0, count)
        unmoving = forward.upstream([moving])

        @tf.function(autograph=False)
        def evaluate_line(
            values,
            state,
            batch,
            direction,
            offsets,
        ):
            inputs = gradients.bind_inputs((values, state, batch))
            required = forward.required_by(moving)
            unmoved = dict(zip(required, forward.insert(unmoving, inputs, required), strict=True))

            def move(k):
                offset = tf.gather(offsets, k)
                return [v + offset * d for v, d in zip(values, direction, strict=True)]

            rows = tf.shape(offsets)[0]
            results = tf.TensorArray(tf.float64, size=rows, element_shape=(3,))
            bounds = 0, rows
            return insert_loop(
                forward,
                moving,
                (0, count),
                move,
                unmoved,
                bounds,
                results,
                self._at_once,
            ).stack()

        common = (*self._arguments, self._arguments[0])
        traced = evaluate_line.get_concrete_function(*common, VECTOR)
        return distribute(traced, self._strategy, common, (VECTOR,))
