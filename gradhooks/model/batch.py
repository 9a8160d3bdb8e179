"""The fixed minibatch, from whatever `fit()` accepts."""

import dataclasses
import types
from typing import Any

import keras
import numpy as np

from gradhooks import backends
from gradhooks.model import keras_internals, untouched
from gradhooks.reports.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Batch:
    """The examples on which every gradient is checked; NumPy arrays, or ragged tensors, in the structure the
    model expects."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def size(self):
        """Number of examples; None where the arrays have no common length, as the nodes and edges of one graph."""
        lengths = _lengths((self.x, self.y, self.sample_weight))
        return lengths[0] if len(set(lengths)) == 1 else None

    def not_finite(self):
        """Returns, as text, which parts hold how many entries that are NaN or infinite; empty if none does."""
        counts = {
            name: _count_not_finite(getattr(self, name)) for name in ("x", "y", "sample_weight")
        }
        return ", ".join(f"{count} in {name}" for name, count in counts.items() if count)


def take_batch(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    batch_size: int | None = 32,
) -> Batch:
    """Takes the first batch, once, in the form in which `fit()` would feed it to the model.

    Args:
        x: Arrays, lists or dicts of arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or a generator of `(x, y[, sample_weight])`.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples to keep; None takes arrays as
            they are, and of anything else its first batch.

    Returns:
        A `Batch` of at most `batch_size` examples.

    Raises:
        BadInputError: If there is nothing in it, or arrays of different
            lengths would have to be cut.
    """
    with untouched.Untouched():
        try:
            parts = _first(x, y, sample_weight, class_weight, batch_size)
        except BadInputError:
            raise
        except (
            Exception
        ) as error:  # of Keras, which does not take such data, or of whatever makes them
            raise BadInputError(
                "The data for a gradient check must be readable, as for `fit()`. "
                f"Received: data that raise {type(error).__name__}: {error}"
            ) from error
    parts = keras.tree.map_structure(lambda a: None if a is None else _array(a), tuple(parts))
    if batch_size is not None:
        lengths = _lengths(parts)
        if len(set(lengths)) > 1 and max(lengths) > batch_size:
            raise _without_common_length(lengths, batch_size)
        parts = keras.tree.map_structure(lambda a: None if a is None else a[:batch_size], parts)
    batch = Batch(*parts)
    _validate(batch)
    return batch


def _first(x, y, sample_weight, class_weight, batch_size):
    if x is None:
        raise BadInputError(
            "A gradient check needs a batch to evaluate the loss on. Received: x=None. "
            "Expected arrays, a dataset or a generator, as for `fit()`. "
            "Try passing the first rows of the training data."
        )
    if isinstance(x, types.GeneratorType):
        # Keras' adapter would take several batches to find their shapes; one is all that may be
        # taken.
        return _unpacked(keras, next(x, None))
    lengths = _lengths((x, y, sample_weight))
    if lengths and batch_size is None:
        return keras_internals.whole_arrays(x, y, sample_weight, class_weight)
    if len(set(lengths)) > 1:
        raise _without_common_length(lengths, batch_size)
    adapter = keras_internals.data_adapter(
        _without_sharing(x), y, sample_weight, batch_size, class_weight
    )
    if isinstance(x, keras.utils.PyDataset):
        # Asking for one item starts no worker processes.
        return _unpacked(keras, adapter._standardize_batch(x[0]) if len(x) else None)
    # NumPy has no ragged arrays: rows would be filled up, and the loss be another one.
    specs = getattr(x, "element_spec", None)
    is_ragged = any(
        map(backends.current().is_ragged, keras.tree.flatten((x, y) if specs is None else specs))
    )
    batches = adapter.get_tf_dataset() if is_ragged else adapter.get_numpy_iterator()
    return _unpacked(keras, next(iter(batches), None))


def _lengths(parts):
    """The length of every array; empty where not all is arrays. What is no array has one of Keras' adapters."""
    is_ragged = backends.current().is_ragged
    flat = [part for part in keras.tree.flatten(parts) if part is not None]
    if not all(hasattr(part, "__array__") or is_ragged(part) for part in flat):
        return []
    return [int(part.nrows()) if is_ragged(part) else int((*part.shape, 1)[0]) for part in flat]


def _without_common_length(lengths, batch_size):
    return BadInputError(
        "A batch is the first rows of every array, so all must have the same length. "
        f"Received: arrays of lengths {', '.join(map(str, lengths))}, and batch_size={batch_size}. "
        "Expected one length, or batch_size=None, which takes all arrays as they are: the nodes and edges of one "
        "graph belong together. Try batch_size=None; and for a layer that takes several arguments, `call=` of "
        "gradhooks.testing.assert_gradients."
    )


def _without_sharing(x):
    """Iterating a `tf.data` pipeline advances its shuffling; iterating a copy leaves the original alone."""
    if type(x).__module__.startswith("tensorflow") and hasattr(x, "element_spec"):
        from gradhooks.backends import tensorflow

        return tensorflow.copy_first_element(x)
    return x


def _unpacked(keras, data):
    if data is None:
        raise BadInputError(
            "The data for a gradient check must hold at least one batch. Received: an empty dataset or generator. "
            "Expected `(x, y)` or `(x, y, sample_weight)`. Try a dataset that is not exhausted."
        )
    return keras.utils.unpack_x_y_sample_weight(data)


def _array(value):
    if backends.current().is_ragged(value):
        return value
    if hasattr(value, "numpy"):
        value = value.numpy()
    return np.asarray(value)


def _count_not_finite(part):
    arrays = [_values(array) for array in keras.tree.flatten(part)]
    return sum(int((~np.isfinite(a)).sum()) for a in arrays if np.issubdtype(a.dtype, np.floating))


def _values(value):
    """All numbers of a part of a batch, as an array."""
    if value is None:
        return np.empty(0)
    return value.flat_values.numpy() if backends.current().is_ragged(value) else value


def _validate(batch):
    if not keras.tree.flatten(batch.x) or not any(_lengths(batch.x)):
        raise BadInputError(
            "The batch for a gradient check must hold at least one example. Received: an empty batch. "
            "Expected 1 to `batch_size` rows. Try passing the first rows of the training data."
        )


def have_same_shapes(values, others):
    """Returns whether two sequences of arrays or variables agree in their shapes and dtypes, None included."""
    return [_shape_and_dtype(value) for value in values] == [
        _shape_and_dtype(other) for other in others
    ]


def have_same_structure(nested, others):
    """Returns whether two nested structures are built alike, of arrays of the same shapes and dtypes."""
    try:
        keras.tree.assert_same_structure(nested, others)
    except (TypeError, ValueError):
        return False
    return have_same_shapes(keras.tree.flatten(nested), keras.tree.flatten(others))


def _shape_and_dtype(value):
    return None if value is None else (tuple(value.shape), str(value.dtype))
