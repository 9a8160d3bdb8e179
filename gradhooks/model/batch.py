"""The fixed minibatch, from whatever `fit()` accepts."""

import dataclasses
import types
from typing import Any

import keras
import numpy as np

from gradhooks import backends
from gradhooks.model import data_adapters, untouched
from gradhooks.reports.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Batch:
    """The examples on which every gradient is checked.

    NumPy arrays, or ragged tensors, in the structure that the model expects.

    Args:
        x: Inputs.
        y: Targets; None without any.
        sample_weight: Weights of the examples; None without any.
        has_class_weight: Whether these weights are those of their classes.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    has_class_weight: bool = False

    @property
    def size(self):
        """Number of examples.

        None where the arrays have no common length, as the nodes and edges of one graph.
        """
        lengths = _lengths((self.x, self.y, self.sample_weight))
        return lengths[0] if len(set(lengths)) == 1 else None

    def not_finite(self):
        """Returns, as text, how many entries of which parts are NaN or infinite."""
        counts = []
        for name in ("x", "y", "sample_weight"):
            count = _count_not_finite(getattr(self, name))
            if count:
                counts.append(f"{count} in {name}")
        return ", ".join(counts)


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
        BadInputError: If the batch is empty, or arrays of different lengths
            would have to be cut.
    """
    with untouched.Untouched():
        try:
            parts = _take_first(x, y, sample_weight, class_weight, batch_size)
        except BadInputError:
            raise
        except Exception as error:
            # Keras does not take data of this kind, or the code that makes them fails.
            raise BadInputError(
                "The data for a gradient check must be readable, as for `fit()`. "
                f"Received: data that raise {type(error).__name__}: {error}"
            ) from error
    parts = keras.tree.map_structure(_to_array, tuple(parts))
    if batch_size is not None:
        lengths = _lengths(parts)
        if len(set(lengths)) > 1 and max(lengths) > batch_size:
            raise _without_common_length(lengths, batch_size)
        parts = keras.tree.map_structure(lambda a: None if a is None else a[:batch_size], parts)
    batch = Batch(*parts, has_class_weight=class_weight is not None)
    _check_not_empty(batch)
    return batch


def _take_first(x, y, sample_weight, class_weight, batch_size):
    """Returns (x, y, sample_weight) of the first batch."""
    if x is None:
        raise BadInputError(
            "A gradient check needs a batch to evaluate the loss on. Received: x=None. "
            "Expected arrays, a dataset or a generator, as for `fit()`. "
            "Try passing the first rows of the training data."
        )
    if isinstance(x, types.GeneratorType):
        # Keras' adapter would take several batches to find their shapes; a check may take only one.
        return _unpack(next(x, None))
    lengths = _lengths((x, y, sample_weight))
    if lengths and batch_size is None:
        return data_adapters.take_whole_arrays(x, y, sample_weight, class_weight)
    if len(set(lengths)) > 1:
        raise _without_common_length(lengths, batch_size)
    backend = backends.current()
    independent = backend.copy_dataset(x)
    adapter = data_adapters.make_adapter(independent, y, sample_weight, batch_size, class_weight)
    if isinstance(x, keras.utils.PyDataset):
        # Asking for one item starts no worker processes.
        return _unpack(adapter._standardize_batch(x[0]) if len(x) else None)
    specs = getattr(x, "element_spec", None)
    parts = keras.tree.flatten((x, y) if specs is None else specs)
    # NumPy has no ragged arrays: rows would be padded, which makes another loss.
    is_ragged = any(backend.is_ragged(part) for part in parts)
    batches = adapter.get_tf_dataset() if is_ragged else adapter.get_numpy_iterator()
    return _unpack(next(iter(batches), None))


def _lengths(parts):
    """Returns the length of every array; an empty list where anything else is among them.

    Keras has adapters of its own for anything else.
    """
    is_ragged = backends.current().is_ragged
    lengths = []
    for part in keras.tree.flatten(parts):
        if part is None:
            continue
        if is_ragged(part):
            lengths.append(int(part.nrows()))
        elif hasattr(part, "__array__"):
            lengths.append(int((*part.shape, 1)[0]))
        else:
            return []
    return lengths


def _without_common_length(lengths, batch_size):
    return BadInputError(
        "A batch is the first rows of every array, so all must have the same length. "
        f"Received: arrays of lengths {', '.join(map(str, lengths))}, and batch_size={batch_size}. "
        "Expected one length, or batch_size=None, which takes all arrays as they are: the nodes "
        "and edges of one graph belong together. Try batch_size=None; and for a layer that takes "
        "several arguments, `call=` of gradhooks.testing.assert_gradients."
    )


def _unpack(data):
    if data is None:
        raise BadInputError(
            "The data for a gradient check must hold at least one batch. Received: an empty "
            "dataset or generator. Expected `(x, y)` or `(x, y, sample_weight)`. Try a dataset "
            "that is not exhausted."
        )
    return keras.utils.unpack_x_y_sample_weight(data)


def _to_array(value):
    """Returns a NumPy array; a ragged tensor and None as they are."""
    if value is None or backends.current().is_ragged(value):
        return value
    if hasattr(value, "numpy"):
        value = value.numpy()
    return np.asarray(value)


def _count_not_finite(part):
    """Returns how many floats in a part of a batch are NaN or infinite."""
    count = 0
    for array in keras.tree.flatten(part):
        entries = _entries(array)
        if np.issubdtype(entries.dtype, np.floating):
            count += int((~np.isfinite(entries)).sum())
    return count


def _entries(value):
    """Returns all numbers of an array or a ragged tensor, as an array."""
    if value is None:
        return np.empty(0)
    return value.flat_values.numpy() if backends.current().is_ragged(value) else value


def _check_not_empty(batch):
    if not keras.tree.flatten(batch.x) or not any(_lengths(batch.x)):
        raise BadInputError(
            "The batch for a gradient check must hold at least one example. Received: an empty "
            "batch. Expected 1 to `batch_size` rows. Try passing the first rows of the training "
            "data."
        )


def have_same_shapes(values, others):
    """Returns whether two sequences of arrays or variables agree in shapes and dtypes.

    None counts as equal to None alone.
    """
    own = [_shape_and_dtype(value) for value in values]
    return own == [_shape_and_dtype(other) for other in others]


def have_same_structure(nested, others):
    """Returns whether two nested structures of arrays agree, also in shapes and dtypes."""
    try:
        keras.tree.assert_same_structure(nested, others)
    except (TypeError, ValueError):
        return False
    return have_same_shapes(keras.tree.flatten(nested), keras.tree.flatten(others))


def _shape_and_dtype(value):
    return None if value is None else (tuple(value.shape), str(value.dtype))
