"""TensorFlow's random operations, replaced by draws that belong to the place of the draw."""

import contextlib

import tensorflow as tf
from tensorflow.python.ops import (
    gen_random_ops,
    gen_stateful_random_ops,
    gen_stateless_random_ops_v2,
    while_loop,
)

from gradhooks.backends.tensorflow.casts import call_with_xla, is_in_xla
from gradhooks.backends.tensorflow.fixed_draws import FixedDraws
from gradhooks.isolation import threads

_STATELESS = (
    "stateless_random_normal_v2",
    "stateless_random_uniform_v2",
    "stateless_truncated_normal_v2",
)


@contextlib.contextmanager
def fix_draws(draws):
    """Replaces, while open, random operations of the checking thread by draws that can be repeated.

    Their numbers belong to the place of the draw. The state of no generator is
    read or advanced.

    Args:
        draws: The `Draws` that knows where a draw takes place.
    """
    with threads.open_patcher() as patch:
        for owner, functions in _replacements(FixedDraws(draws)).items():
            for name, function in functions.items():
                patch(owner, name, _draw_where_fixed(draws, function, vars(owner)[name]))
        for name in _STATELESS:
            original = vars(gen_stateless_random_ops_v2)[name]
            patch(gen_stateless_random_ops_v2, name, _draw_native(draws, original))
        patch(while_loop, "while_loop", _count_turns(draws, while_loop.while_loop))
        yield


def _replacements(fixed):
    """Maps modules and classes to their random operations by name, and what replaces these."""
    return {
        gen_random_ops: {
            "random_standard_normal": fixed.normal,
            "random_uniform": fixed.uniform,
            "truncated_normal": fixed.truncated_normal,
            "random_uniform_int": fixed.integers,
            "random_shuffle": fixed.shuffle,
            "multinomial": fixed.categories,
            "random_gamma": fixed.gamma,
            "random_poisson_v2": fixed.poisson,
        },
        gen_stateful_random_ops: {
            "rng_read_and_skip": fixed.state,
            "stateful_random_binomial": fixed.binomial,
        },
        tf.random.Generator: {
            "_standard_normal": lambda self, shape, dtype: fixed.normal(shape, dtype),
            "_uniform": lambda self, shape, dtype: fixed.uniform(shape, dtype),
            "_truncated_normal": lambda self, shape, dtype: fixed.truncated_normal(shape, dtype),
        },
    }


def _draw_where_fixed(draws, function, original):
    """Returns an operation that draws by `function`, and by `original` where this gives None."""

    def draw(*args, **kwargs):
        numbers = function(*args, **kwargs) if draws.is_fixed else None
        return original(*args, **kwargs) if numbers is None else numbers

    return draw


def _draw_native(draws, original):
    """Returns an operation that draws from a seed of the user's own what training draws from it.

    At float64 the same seed would give other numbers than at training's dtype.
    """

    def draw(
        shape,
        key,
        counter,
        alg,
        dtype=tf.float32,
        name=None,
    ):
        dtype, static_shape = tf.as_dtype(dtype), tf.get_static_value(shape)
        native = draws.dtype(dtype.name)
        if draws.is_xla and static_shape is not None and not is_in_xla():
            # From the same seed XLA draws other numbers than TensorFlow, and training with XLA
            # has those.
            numbers = call_with_xla(
                lambda key: original(
                    static_shape,
                    key,
                    counter,
                    alg,
                    native,
                ),
                key,
            )
        else:
            numbers = original(
                shape,
                key,
                counter,
                alg,
                native,
                name,
            )
        return tf.cast(numbers, dtype)

    return draw


def _count_turns(draws, original):
    """Returns a `tf.while_loop` that counts its iterations where it runs eagerly.

    Each draw is at the same place in every iteration, and the iteration
    distinguishes them, as in a graph.
    """

    def run_loop(cond, body, *args, **kwargs):
        if not tf.executing_eagerly():
            return original(cond, body, *args, **kwargs)
        position, count = draws.position(), 0

        def run_body(*values):
            nonlocal count
            draws.rewind(position)
            draws.turns.append(count)
            count += 1
            try:
                return body(*values)
            finally:
                draws.turns.pop()

        return original(cond, run_body, *args, **kwargs)

    return run_loop
