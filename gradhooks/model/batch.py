"""The fixed minibatch, from whatever `fit()` accepts."""

import dataclasses
import types
from typing import Any

import numpy as np

from gradhooks import backends
from gradhooks.errors import BadInputError
from gradhooks.model import keras_internals, untouched


@dataclasses.dataclass(frozen=True)
class Batch:
    """The examples on which every gradient is checked; NumPy arrays, or ragged tensors, in the structure the
    model expects."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def size(self):
        """Number of examples."""
        import keras

        return int(keras.tree.flatten(self.x)[0].shape[0])


def fixed_batch(x, y=None, sample_weight=None, class_weight=None, batch_size=32):
    """Takes the first batch, once, in the form in which `fit()` would feed it to the model.

    Args:
        x: Arrays, lists or dicts of arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or a generator of `(x, y[, sample_weight])`.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples to keep.

    Returns:
        A `Batch` of at most `batch_size` examples.

    Raises:
        BadInputError: If there is nothing in it, or something not finite.
    """
    import keras

    with untouched.Untouched():
        try:
            parts = _first(x, y, sample_weight, class_weight, batch_size)
        except BadInputError:
            raise
        except Exception as error:  # of Keras, which does not take such data, or of whatever makes them
            raise BadInputError(
                "The data for a gradient check must be readable, as for `fit()`. "
                f"Received: data that raise {type(error).__name__}: {error}"
            ) from error
    parts = tuple(
        keras.tree.map_structure(lambda a: None if a is None else _array(a)[:batch_size], part) for part in parts
    )
    batch = Batch(*parts)
    _validate(batch)
    return batch


def _first(x, y, sample_weight, class_weight, batch_size):
    import keras

    if x is None:
        raise BadInputError(
            "A gradient check needs a batch to evaluate the loss on. Received: x=None. "
            "Expected arrays, a dataset or a generator, as for `fit()`. "
            "Try passing the first rows of the training data."
        )
    if isinstance(x, types.GeneratorType):
        # Keras' adapter would take several batches to find their shapes; one is all that may be taken.
        return _unpacked(keras, next(x, None))
    adapter = keras_internals.data_adapter(_without_sharing(x), y, sample_weight, batch_size, class_weight)
    if isinstance(x, keras.utils.PyDataset):
        # Asking for one item starts no worker processes.
        return _unpacked(keras, adapter._standardize_batch(x[0]) if len(x) else None)
    # NumPy has no ragged arrays: rows would be filled up, and the loss be another one.
    specs = getattr(x, "element_spec", None)
    is_ragged = any(map(backends.current().is_ragged, keras.tree.flatten((x, y) if specs is None else specs)))
    batches = adapter.get_tf_dataset() if is_ragged else adapter.get_numpy_iterator()
    return _unpacked(keras, next(iter(batches), None))


def _without_sharing(x):
    """Iterating a `tf.data` pipeline advances its shuffling; iterating a copy leaves the original alone."""
    if type(x).__module__.startswith("tensorflow") and hasattr(x, "element_spec"):
        from gradhooks.backends import tensorflow

        return tensorflow.dataset_copy(x)
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


def _values(value):
    """All numbers of a part of a batch, as an array."""
    if value is None:
        return np.empty(0)
    return value.flat_values.numpy() if backends.current().is_ragged(value) else value


def _validate(batch):
    import keras

    if not keras.tree.flatten(batch.x) or batch.size == 0:
        raise BadInputError(
            "The batch for a gradient check must hold at least one example. Received: an empty batch. "
            "Expected 1 to `batch_size` rows. Try passing the first rows of the training data."
        )
    for name in ("x", "y", "sample_weight"):
        for array in keras.tree.flatten(getattr(batch, name)):
            array = _values(array)
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise BadInputError(
                    "The batch for a gradient check must be finite: a loss that is NaN has no derivative. "
                    f"Received: {name} with {int((~np.isfinite(array)).sum())} entries that are NaN or infinite. "
                    f"Expected finite numbers. Try cleaning `{name}`, or passing other rows."
                )
