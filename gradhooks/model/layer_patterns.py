"""What layers excuse whose gradient is meant to be another one: declared by path, or known.

Patterns of `expect` hold for variables and for layers. What a layer does to the gradient is
done to every variable whose gradient passes through it, which the trace of the loss shows.
"""

import contextlib
import dataclasses
import fnmatch

import keras

from gradhooks import backends
from gradhooks.isolation import threads
from gradhooks.model import keras_internals, known
from gradhooks.model.compiled_loss import path_of
from gradhooks.reports.excuses import Excuse

# Keras calls the first of these, or the second one if the layer is quantized.
_CALLS = ("call", "quantized_call")


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A layer that may excuse something.

    Args:
        layer: The layer.
        kind: The kind of its `Excuse`.
        pattern: The pattern of `expect`; empty for a known approximation.
        approximation: The `known.Approximation`; None for a declaration.
    """

    layer: object
    kind: str
    pattern: str = ""
    approximation: known.Approximation | None = None


@dataclasses.dataclass(frozen=True)
class _Call:
    """One call of a layer while it is traced.

    Args:
        training: Its argument of this name, None without one.
        inputs: Tensors that went in.
        outputs: Tensors that came out.
    """

    training: bool | None
    inputs: list
    outputs: list

    @property
    def is_identity(self):
        """Whether the layer hands on what it is given, and so does nothing to the gradient."""
        taken = {id(tensor) for tensor in self.inputs}
        return all(id(tensor) in taken for tensor in self.outputs)


class WatchedLayers:
    """The layers of a model whose gradient is meant to be another one, and how they are called.

    Args:
        model: The model.
        expect: Declared mismatches, pairs (path pattern, kind).
        training: Value of the `training` argument of the forward pass.
    """

    def __init__(self, model, expect, training):
        self._backend = backends.current()
        self._training = training
        self._candidates = _list_candidates(model, expect)
        self._calls = {}

    @contextlib.contextmanager
    def note_calls(self):
        """While open, calls of these layers are noted; what they compute stays the same."""
        self._calls = {}
        layers = {id(candidate.layer): candidate.layer for candidate in self._candidates}
        with threads.open_patcher() as patch:
            for layer in layers.values():
                for name in _CALLS:
                    patch(layer, name, self._wrap(layer, getattr(layer, name)))
            yield

    def take_calls_of(self, other):
        """Takes over the calls that were noted for another model of the same kind.

        Args:
            other: The `WatchedLayers` of a model that is built alike, which was traced.
        """
        self._calls = {}
        for own, traced in zip(self._candidates, other._candidates, strict=True):
            if id(traced.layer) in other._calls:
                self._calls[id(own.layer)] = other._calls[id(traced.layer)]

    def _wrap(self, layer, call):
        """Wraps a method of a layer so that its calls are noted."""

        def call_and_note(*args, **kwargs):
            results = call(*args, **kwargs)
            inputs = self._find_tensors((args, kwargs))
            noted = _Call(kwargs.get("training"), inputs, self._find_tensors(results))
            self._calls.setdefault(id(layer), []).append(noted)
            return results

        return call_and_note

    def _find_tensors(self, nested):
        flat = keras.tree.flatten(nested)
        return [value for value in flat if self._backend.is_symbolic(value)]

    def list_excuses(self, oracle):
        """Returns an `Excuse` for every watched layer that excuses anything, a tuple.

        Args:
            oracle: A traced `oracle.ModelOracle`.
        """
        excuses = []
        for candidate in self._candidates:
            covered = self._find_covered(candidate, oracle)
            if covered:
                approximation = candidate.approximation
                sentence = ""
                if approximation is not None:
                    sentence = f"{approximation.sentence} ({approximation.page})"
                path = path_of(candidate.layer)
                pattern = candidate.pattern
                excuses.append(Excuse(path, candidate.kind, covered, pattern, sentence))
        return tuple(excuses)

    def _find_covered(self, candidate, oracle):
        """Returns the kinds that a candidate excuses, by (path, term)."""
        layer, approximation = candidate.layer, candidate.approximation
        calls = self._select_calls(candidate)
        if not calls:
            return {}
        is_for_inputs, own, trained = True, layer.trainable_variables, "none"
        if approximation is not None:
            is_for_inputs, trained = approximation.is_for_inputs, approximation.trained
            own = approximation.weights(layer)
        own = {id(variable) for variable in own}
        inputs, outputs = [], []
        for call in calls:
            inputs += call.inputs
            outputs += call.outputs
        covered = {}
        is_blocked = candidate.kind == "blocked"
        passages = oracle.find_passages(inputs, outputs, is_blocked)
        for number, (path, variable) in enumerate(
            zip(oracle.layout.paths, oracle.variables, strict=True)
        ):
            is_own = id(variable) in own
            for term, passage in zip(oracle.term_names, passages, strict=False):
                if (is_for_inputs and passage.through[number]) or (is_own and passage.is_open):
                    is_partly_blocked = is_blocked and passage.around[number]
                    covered[path, term] = "mismatch" if is_partly_blocked else candidate.kind
            if trained == "all" or (trained == "own" and is_own):
                covered[path, "trained"] = candidate.kind
        return covered

    def _select_calls(self, candidate):
        """Returns the calls of a candidate in which it does what is excused."""
        layer, approximation = candidate.layer, candidate.approximation
        calls = self._calls.get(id(layer), [])
        if approximation is None:
            return calls
        selected = []
        for call in calls:
            training = self._training if call.training is None else call.training
            if not call.is_identity and approximation.applies(layer, training):
                selected.append(call)
        return selected


def _list_candidates(model, expect):
    """Returns the `_Candidate`s among the layers of a model."""
    layers = keras_internals.layers_of(model)
    weights = keras_internals.trained_weights(model)
    candidates = []
    for pattern, kind in expect:
        if kind == "untrained":
            continue  # what a train step does with variables, whatever the layers are
        if all(fnmatch.fnmatchcase(weight.path, pattern) for weight in weights):
            continue  # layers add nothing to it
        for layer in layers:
            if is_match(path_of(layer), pattern):
                candidates.append(_Candidate(layer, kind, pattern))
    for layer in layers:
        for approximation in known.find_approximations(layer):
            candidates.append(_Candidate(layer, "known", approximation=approximation))
    return candidates


def is_match(path, pattern):
    """Whether a pattern matches a layer's path; `*/name` also matches one that no other holds."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in (path, f"/{path}"))
