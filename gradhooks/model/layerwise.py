"""A loss and its gradient observed layer by layer: what goes into and comes out of every call."""

import contextlib
import dataclasses
import itertools

import keras
import numpy as np

from gradhooks.isolation import threads
from gradhooks.model import compiled_loss
from gradhooks.numerics import departure, jittering_layer


@dataclasses.dataclass(frozen=True)
class Watched:
    """What was observed in one evaluation.

    Args:
        calls: `departure.Call`s, in the order in which they ended.
        loss: The loss.
        gradient: float64, shape (P,). Its gradient.
    """

    calls: tuple
    loss: float
    gradient: np.ndarray


@dataclasses.dataclass
class _TracedCall:
    """One call of a layer while it is traced.

    Args:
        layer: The layer.
        entered: Its number in the order in which calls began.
        inputs: Tensors that went in.
        outputs: Tensors that came out.
    """

    layer: object
    entered: int
    inputs: list
    outputs: list


def watch_twice(tracer, backend, layers, promote, scale):
    """Observes two evaluations: one as training computes, one promoted.

    Args:
        tracer: A `tracing.Tracer`.
        backend: The backend module.
        layers: The layers of the model, the model first.
        promote: Function that makes the context of a promoted trace; None if
            nothing is promoted.
        scale: The factor of the loss before it is differentiated.

    Returns:
        Two `Watched`, the second one None if nothing is promoted; None if the loss
        cannot be observed.
    """

    def watch(promote):
        return watch_calls(tracer, backend, layers, promote, scale)[0]

    try:
        with tracer.untouched() as belongings:
            native = belongings.run(lambda: watch(None))
            belongings.restore()
            if promote is None:
                return native, None
            return native, belongings.run(lambda: watch(promote))
    except Exception:
        return None  # where it happens is additional information; that it happens is known


def find_jittering_layer(tracer, backend, layers, promote, tolerance):
    """Returns the path of the layer at which two evaluations of one trace begin to differ.

    Args:
        tracer: A `tracing.Tracer`.
        backend: The backend module.
        layers: The layers of the model, the model first.
        promote: As for `watch_calls`.
        tolerance: Relative difference that is no more than rounding.

    Returns:
        The path; empty if they differ in no layer, or if no layer can be observed.
    """
    try:
        with tracer.untouched() as belongings:
            first, second = belongings.run(
                lambda: watch_calls(tracer, backend, layers, promote, 1.0, times=2)
            )
    except Exception:
        return ""  # where it happens is additional information; that it happens is known
    return jittering_layer.find_jittering_layer(first.calls, second.calls, tolerance)


def watch_calls(tracer, backend, layers, promote, scale, times=1):
    """Observes evaluations of one trace at the model's present state.

    Args:
        tracer: A `tracing.Tracer`.
        backend: The backend module.
        layers: The layers of the model, the model first.
        promote: Function that makes the context of the trace; None for the
            precision at which training computes.
        scale: The factor of the loss before it is differentiated; the gradient
            is divided by it.
        times: How many evaluations.

    Returns:
        What was `Watched`, a list of one for each evaluation.
    """
    noted, calls, is_dense = [], [], []
    weights_of = _assign_weights(tracer.variables, layers)

    def finish(total, values):
        calls[:] = noted  # the backward pass may call layers again
        tensors = list(values)
        for call in calls:
            tensors += [*call.inputs, *call.outputs]
        slopes = backend.differentiate_scaled(total, scale, tensors)
        is_dense[:] = [slope is not None for slope in slopes]
        summaries = [backend.summarize(tensor) for tensor in tensors]
        summaries += [backend.summarize(slope) for slope in slopes if slope is not None]
        gradient = backend.fill_missing_gradients(slopes[: len(values)], [v.shape for v in values])
        return [total, *gradient, *summaries]

    tracer.take_fresh_loss()
    with promote() if promote else contextlib.nullcontext():
        runs = tracer.evaluate(finish, promote, lambda: _note_calls(backend, layers, noted), times)
    count = len(tracer.variables)
    watched = []
    for loss, *results in runs:
        flat = np.concatenate([np.zeros(0), *(np.ravel(part) for part in results[:count])])
        remaining = iter([departure.Summary(*map(float, part)) for part in results[count:]])
        tensors = [next(remaining) for _ in is_dense]
        slopes = [next(remaining) if has_slope else None for has_slope in is_dense]
        summed_up = _sum_up(calls, tensors, slopes, weights_of, count)
        watched.append(Watched(tuple(summed_up), float(loss), flat / scale))
    return watched


def _sum_up(calls, tensors, slopes, weights_of, count):
    """Returns a `departure.Call` for each traced call.

    Args:
        calls: `_TracedCall`s.
        tensors: Summaries of values: of the variables, then of each call's
            inputs and outputs.
        slopes: Summaries of their gradients; None where there is none.
        weights_of: dict of ids of layers to the numbers of their own variables.
        count: How many variables there are.
    """
    summed_up = []
    start, seen = count, set()
    for call in calls:
        middle = start + len(call.inputs)
        stop = middle + len(call.outputs)
        # A layer's weights have one gradient, however often it is called.
        numbers = () if id(call.layer) in seen else weights_of.get(id(call.layer), ())
        seen.add(id(call.layer))
        weight_slopes = [slopes[number] for number in numbers]
        summed_up.append(
            departure.Call(
                compiled_loss.path_of(call.layer),
                call.entered,
                tuple(tensors[start:middle]),
                tuple(tensors[middle:stop]),
                (*slopes[start:middle], *weight_slopes),
                tuple(slopes[middle:stop]),
            )
        )
        start = stop
    return summed_up


def _assign_weights(variables, layers):
    """Returns a dict of ids of layers to the numbers of the variables that they hold themselves."""
    held = {}
    for layer in layers:
        held[id(layer)] = {id(variable) for variable in layer.trainable_variables}
    numbers = {}
    for number, variable in enumerate(variables):
        holders = [layer for layer in layers if id(variable) in held[id(layer)]]
        if holders:
            # The last of the smallest: a layer comes after those that hold it.
            owner = min(reversed(holders), key=lambda layer: len(held[id(layer)]))
            numbers.setdefault(id(owner), []).append(number)
    return numbers


@contextlib.contextmanager
def _note_calls(backend, layers, calls):
    """While open, every call of a layer is appended to a list when it ends."""
    order = itertools.count()
    with threads.open_patcher() as patch:
        for layer in layers:
            patch(layer, "call", _wrap(backend, layer, layer.call, calls, order))
        yield


def _wrap(backend, layer, call, calls, order):
    """Wraps `call` of a layer so that its inputs and outputs are noted."""

    def call_and_note(*args, **kwargs):
        entered, inputs = next(order), []

        def pass_on(value):
            if not backend.is_watchable(value):
                return value
            inputs.append(backend.insert_identity(value))
            return inputs[-1]

        args, kwargs = keras.tree.map_structure(pass_on, (args, kwargs))
        results = call(*args, **kwargs)
        flat = keras.tree.flatten(results)
        outputs = [value for value in flat if backend.is_watchable(value)]
        calls.append(_TracedCall(layer, entered, inputs, outputs))
        return results

    return call_and_note
