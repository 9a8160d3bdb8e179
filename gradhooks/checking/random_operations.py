"""Notes on what gives other numbers each time: which operation, in which layer, and the way out."""

# So many places are named; more are of one kind, most often.
_NAMED = 4

_SAYS = {
    "random": "draws from TensorFlow's own generator in code that the check cannot replace (compiled before, or run by "
    "backpropagation alone); use keras.random with a keras.random.SeedGenerator that the layer keeps",
    "python": "runs Python code (tf.numpy_function or tf.py_function), which may give other numbers each time; what it "
    "draws, let keras.random draw with a keras.random.SeedGenerator, or pass it as an input",
}


def notes(oracle):
    """Returns sentences on what an oracle's trace leaves to chance.

    Args:
        oracle: A `ModelOracle`, or anything that answers like one.
    """
    found = list(oracle.chance())
    told = [f"{place}: {_SAYS[kind]}" for place, kind in found[:_NAMED]]
    if len(found) > _NAMED:
        told.append(f"... and {len(found) - _NAMED} more places that draw or run Python code")
    return told
