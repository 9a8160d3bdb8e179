"""A loss and its gradient watched layer by layer: what goes in and comes out of every call, forth and back."""

import contextlib
import dataclasses
import itertools

import numpy as np

from gradhooks.isolation import threads
from gradhooks.model import keras_internals
from gradhooks.numerics import departure


@dataclasses.dataclass(frozen=True)
class Watched:
    """What was seen in one evaluation.

    Args:
        calls: `departure.Call`s, in the order in which they ended.
        loss: The loss.
        gradient: float64, shape (P,). Its gradient.
    """

    calls: tuple
    loss: float
    gradient: np.ndarray


@dataclasses.dataclass
class _Call:
    """One call while it is traced: its tensors, and where their summaries will be."""

    layer: object
    entered: int
    inputs: list
    outputs: list


def watch_calls(tracer, backend, layers, promote, scale):
    """Returns what is `Watched` in one evaluation at the model's present state.

    Args:
        tracer: A `tracing.Tracer`.
        backend: The backend module.
        layers: The layers of the model, the model first.
        promote: Function that makes the context of the trace; None for the
            precision at which training computes.
        scale: By what the loss is multiplied before it is differentiated; the
            gradient is divided by it.
    """
    calls, told = [], {}
    owned = _owned(tracer.variables, layers)

    def finish(total, values):
        seen = list(calls)  # the backward pass may call layers again
        tensors = [*values, *(t for call in seen for t in [*call.inputs, *call.outputs])]
        slopes = backend.differentiate_scaled(total, scale, tensors)
        told["calls"], told["is_dense"] = seen, [s is not None for s in slopes]
        summaries = [
            backend.summarize(t) for t in [*tensors, *(s for s in slopes if s is not None)]
        ]
        return [
            total,
            *backend.fill_missing_gradients(slopes[: len(values)], [v.shape for v in values]),
            *summaries,
        ]

    tracer.take_fresh_loss()
    with promote() if promote else contextlib.nullcontext():
        loss, *found = tracer.evaluated(
            finish, promote, lambda: _calls_watched(backend, layers, calls)
        )
    count = len(tracer.variables)
    gradient = np.concatenate([np.zeros(0), *(np.ravel(part) for part in found[:count])]) / scale
    summaries = iter([departure.Summary(*map(float, s)) for s in found[count:]])
    tensors = [next(summaries) for _ in told["is_dense"]]
    slopes = [next(summaries) if is_dense else None for is_dense in told["is_dense"]]
    return Watched(
        tuple(_told(told["calls"], tensors, slopes, owned, count)), float(loss), gradient
    )


def _told(calls, tensors, slopes, owned, count):
    """The `departure.Call`s, by the summaries of values and gradients: variables first, then inputs and outputs."""
    start, seen = count, set()
    for call in calls:
        middle, stop = start + len(call.inputs), start + len(call.inputs) + len(call.outputs)
        # A layer's weights have one gradient, however often it is called.
        own = [] if id(call.layer) in seen else [slopes[v] for v in owned.get(id(call.layer), ())]
        seen.add(id(call.layer))
        yield departure.Call(
            keras_internals.path_of(call.layer),
            call.entered,
            tuple(tensors[start:middle]),
            tuple(tensors[middle:stop]),
            (*slopes[start:middle], *own),
            tuple(slopes[middle:stop]),
        )
        start = stop


def _owned(variables, layers):
    """id of a layer -> numbers of the variables that it holds itself."""
    found = {}
    sizes = {id(layer): {id(v) for v in layer.trainable_variables} for layer in layers}
    for number, variable in enumerate(variables):
        holders = [layer for layer in layers if id(variable) in sizes[id(layer)]]
        if holders:
            # The last of the smallest: a layer comes after those that hold it.
            owner = min(reversed(holders), key=lambda layer: len(sizes[id(layer)]))
            found.setdefault(id(owner), []).append(number)
    return found


@contextlib.contextmanager
def _calls_watched(backend, layers, calls):
    """While open, every call of a layer is noted when it ends."""
    order = itertools.count()
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        for layer in layers:
            put(layer, "call", _noting(backend, layer, layer.call, calls, order))
        yield


def _noting(backend, layer, call, calls, order):
    import keras

    def noted_call(*args, **kwargs):
        entered, inputs = next(order), []

        def passed_on(value):
            if not backend.is_watchable(value):
                return value
            inputs.append(backend.insert_identity(value))
            return inputs[-1]

        args, kwargs = keras.tree.map_structure(passed_on, (args, kwargs))
        outputs = call(*args, **kwargs)
        found = [value for value in keras.tree.flatten(outputs) if backend.is_watchable(value)]
        calls.append(_Call(layer, entered, inputs, found))
        return outputs

    return noted_call
