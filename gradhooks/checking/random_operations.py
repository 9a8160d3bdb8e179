"""Notes on operations that give other numbers each time: which one, where, and the way out."""

from gradhooks.checking.oracle import Oracle

# Number of places that are named. A free choice: more are most often of one kind.
_NAMED = 4

_DESCRIPTIONS = {
    "random": (
        "draws from TensorFlow's own generator in code that the check cannot replace (compiled "
        "before, or run by backpropagation alone); use keras.random with a "
        "keras.random.SeedGenerator that the layer keeps"
    ),
    "python": (
        "runs Python code (tf.numpy_function, tf.py_function or jax.pure_callback), which may give "
        "other numbers each time; draw with keras.random and a keras.random.SeedGenerator instead, "
        "or pass the numbers as an input"
    ),
}


# Differences below this fraction of the threshold do not add up to more than it. A free choice
# between the roundoff of float64 and the threshold: a model may make jitter larger on its way.
_ROUNDING = 1e-3


def describe_randomness(oracle: Oracle, threshold: float) -> list[str]:
    """Returns sentences on what makes evaluations differ: the operations and the first layer.

    Args:
        oracle: An `Oracle`.
        threshold: Relative difference that the verdict allows.
    """
    operations = oracle.chance()
    notes = [f"{place}: {_DESCRIPTIONS[kind]}" for place, kind in operations[:_NAMED]]
    if len(operations) > _NAMED:
        more = len(operations) - _NAMED
        notes.append(f"... and {more} more places that draw or run Python code")
    layer = oracle.first_jittering_layer(_ROUNDING * threshold)
    if layer is not None:
        notes.append(f"two evaluations begin to differ in layer {layer}")
    return notes
