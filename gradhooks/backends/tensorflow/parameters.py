"""Parameters end to end, as everybody else knows them, and one by one, as a model wants them."""

import ctypes
import functools
import math
import sys
import weakref

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.pairs import to_pairs

# So many parameters are 8 MB in float64.
_MISSED = 1e6


def flatten(tensors, dtype="float64"):
    """Returns tensors laid end to end on the host, shape (P,); complex ones as pairs."""
    tensors = [to_pairs(tensor) for tensor in tensors]
    flat = np.empty(sum(tensor.shape.num_elements() for tensor in tensors), dtype)
    start = 0
    for tensor in tensors:
        stop = start + tensor.shape.num_elements()
        flat[start:stop] = np.ravel(tensor)
        start = stop
    return flat


def split(flat, shapes):
    """The inverse of `flattened`: a list of views of the array, of the shapes."""
    parts, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(flat[start:stop].reshape(shape))
        start = stop
    return parts


class Cache:
    """What was made of the array asked for last, kept for as long as that array lives and nobody can write to it.

    A check asks for losses around one point a dozen times.

    Args:
        on_end: Called when the array has gone, and with it what was kept.
    """

    def __init__(self, on_end=lambda: None):
        self._owner, self._made, self._on_end = None, {}, on_end

    def get(self, flat, name, make):
        """Returns what `make()` has made of the array under this name, or makes it now."""
        if self._owner is None or self._owner() is not flat:
            # Nothing of the size of a model is held twice.
            self._made.clear()
            self._owner = weakref.ref(flat, functools.partial(_end, self._made, self._on_end))
        if flat.flags.writeable:
            return make()
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def parts(self, flat, shapes):
        """Returns `parted(flat, shapes)` as tensors, which unlike views do not keep the array alive."""
        return self.get(flat, "parts", lambda: [tf.constant(part) for part in split(flat, shapes)])


def _end(made, on_end, _):
    made.clear()
    on_end()


def trim_memory(parameters):
    """Hands free memory back to the system, where the C library keeps it, if that much was as large as the parameters.

    Args:
        parameters: How many there are.
    """
    if parameters > _MISSED and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have none
        if trim is not None:
            trim(0)


def specifications(shapes):
    """Returns the specifications of float64 tensors of the shapes."""
    return [tf.TensorSpec(shape, tf.float64) for shape in shapes]


def bundle(values):
    """Returns tensors end to end as one."""
    flat = [tf.reshape(value, [-1]) for value in values]
    return flat[0] if len(flat) == 1 else tf.concat(flat, 0)


def unbundle(flat, shapes):
    """The inverse of `bundled`: a list of tensors of the shapes."""
    parts = [flat] if len(shapes) == 1 else tf.split(flat, [math.prod(shape) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def with_one_moved(flat, place, offset):
    """A flat tensor with one entry moved; as it is if the place lies outside."""
    if not flat.shape[0]:
        return flat
    return tf.raw_ops.TensorScatterAdd(
        tensor=flat, indices=tf.reshape(place, [1, 1]), updates=offset, bad_indices_policy="IGNORE"
    )


def fill_missing_gradients(gradient, shapes):
    """Returns gradients as dense float64 tensors of the shapes; a missing one is zero."""
    return [
        tf.zeros(shape, tf.float64) if g is None else tf.cast(tf.convert_to_tensor(g), tf.float64)
        for g, shape in zip(gradient, shapes, strict=True)
    ]
