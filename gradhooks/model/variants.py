"""Gradients of other losses, each as one common mistake in a train step would take it.

A variant is traced when it is asked for, which is after a failure only, and kept for
the checks to come.
"""

import contextlib
import dataclasses
import dis

import keras
import numpy as np

from gradhooks.model import keras_internals
from gradhooks.model.objective import Objective
from gradhooks.model.tracing import Tracer

# The class of functional models.
_FUNCTIONAL = keras_internals.private_module("models.functional").Functional
# The most assigned variables that are named. A free choice, since more would hide the rest.
_MOST_NAMED = 2
# The most examples of which every target is compared with every output. A free choice that limits
# what that costs: a million pairs.
_MOST_PAIRED = 1024


@dataclasses.dataclass(frozen=True)
class VariantGradient:
    """The gradient of a variant of the loss at one point.

    Args:
        terms: float64, shape (P,), per term.
        losses: The value of the variant's loss, per term.
        subjects: What is left out or assigned to, in words, by the names of the variant.
    """

    terms: dict
    losses: dict
    subjects: dict


class Variants:
    """Traces variants of a model's loss, at the precision of its check.

    Args:
        objective: What is checked, an `objective.Objective`.
        batch: The fixed minibatch, a `batch.Batch`.
        tracer: The `tracing.Tracer` of the check.
        compilation: The `compilation.Compilation` of the check.
    """

    def __init__(self, objective, batch, tracer, compilation):
        self._objective = objective
        self._batch = batch
        self._tracer = tracer
        self._compilation = compilation
        self._traced = {}  # names -> tracer and program

    def replace_batch(self, batch):
        """Evaluates on another `batch.Batch` from now on."""
        self._batch = batch
        self._traced = {}

    def gradient(self, names, point):
        """Returns the gradient of a variant.

        Args:
            names: What is done otherwise, see `checking.oracle.Oracle`.
            point: float64, shape (P,).

        Returns:
            A `VariantGradient`; None if there is no such variant, or if it cannot be evaluated.
        """
        if not all(self._is_possible(name) for name in names):
            return None
        try:
            return self._evaluate(names, point)
        except Exception:
            return None  # a guess less; what is known without it stands

    def _is_possible(self, name):
        """Whether a variant is another loss at all, as far as that is known without a trace."""
        model = self._objective.model
        if name == "mode":
            return any(map(_may_differ_in_training, keras_internals.layers_of(model)))
        if name == "unweighted":
            return self._batch.sample_weight is not None
        if name == "averaged":
            return _has_one_each(self._batch, self._batch.sample_weight)
        if name in ("paired", "squeezed"):
            # Outputs are columns mostly; targets that are, too, are squeezed first.
            is_flat = getattr(self._batch.y, "ndim", None) == 1
            is_paired = is_flat == (name == "paired") and _has_one_each(self._batch, self._batch.y)
            return self._objective.loss_fn is None and is_paired
        if name == "unadded":
            is_function = self._objective.loss_fn is not None
            return not is_function and any(map(_adds_losses, keras_internals.layers_of(model)))
        if name == "assigned":
            return bool(self._tracer.assigned) and self._tracer.tape is None
        if name == "redrawn":
            return self._tracer.is_recomputing
        return False

    def _trace(self, names):
        """Returns the tracer of a variant and its program."""
        objective, batch = self._objective, self._batch
        if "mode" in names:
            objective = dataclasses.replace(objective, training=not objective.training)
        if "paired" in names or "squeezed" in names:
            objective = _PairedObjective(objective.model, objective.training)
        if "unadded" in names:
            objective = _BareObjective(objective.model, objective.training)
        kind = _KINDS.get(names[0], Tracer)
        tracer = kind(self._compilation.backend, objective, batch, self._tracer.shapes)
        tracer.tape, tracer.has_wide_loss = self._tracer.tape, self._tracer.has_wide_loss
        promote = None
        if self._compilation.promote is not None:
            promote = tracer.promotion(self._compilation.extent)
        with tracer.untouched() as belongings:
            return tracer, belongings.run(lambda: tracer.gradients(promote))

    def _evaluate(self, names, point):
        # Other weights are another input, and no other trace.
        traced = tuple(name for name in names if name not in _OTHER_WEIGHTS)
        tracer, program = self._tracer, self._compilation.gradients
        if traced:
            if traced not in self._traced:
                self._traced[traced] = None
                self._traced[traced] = self._trace(traced)
            tracer, program = self._traced[traced]
        tensors = list(tracer.tensors)
        for name in set(names) & set(_OTHER_WEIGHTS):
            weights = self._other_weights(_OTHER_WEIGHTS[name])
            tensors[len(tensors) - len(weights) :] = weights
        with tracer.untouched() if program.calls_python else contextlib.nullcontext():
            losses, gradients = program.evaluate(point, tracer.present_state(), tensors)
        terms = dict(zip(tracer.term_names, gradients, strict=True))
        subjects = {name: self._name_subject(name) for name in names}
        values = dict(zip(tracer.term_names, map(float, losses), strict=False))
        return VariantGradient(terms, values, subjects)

    def _other_weights(self, function):
        """Returns the tensors, the last ones of a batch, of weights that are all one number."""
        tensors, backend = [], self._compilation.backend
        for weights in keras.tree.flatten(self._batch.sample_weight):
            if weights is not None:
                others = np.full_like(weights, function(weights))
                tensors += backend.disassemble(backend.to_tensor(others))
        return tensors

    def _name_subject(self, name):
        if name in _OTHER_WEIGHTS:
            return "class weights" if self._batch.has_class_weight else "sample weights"
        if name == "mode":
            return f"training={not self._objective.training}"
        if name == "assigned":
            paths = sorted(self._tracer.assigned)
            rest = len(paths) - _MOST_NAMED
            named = " and ".join(paths[:_MOST_NAMED])
            return f"{', '.join(paths[:_MOST_NAMED])} and {rest} more" if rest > 0 else named
        return ""


class _PairedObjective(Objective):
    """The loss between the output for every example and the target of every example.

    This is what remains of a difference of shapes (N, 1) and (N,).
    """

    def loss(self, batch, outputs):
        """See `Objective.loss`."""
        x, y, sample_weight = batch
        count = y.shape[0]
        repeated = keras.ops.repeat(keras.ops.reshape(outputs, (count, 1)), count, axis=0)
        parts = [x, _tile(y, count), _tile(sample_weight, count)]
        return super().loss(parts, repeated)


class _BareObjective(Objective):
    """The loss without what layers have added to it in the forward pass."""

    def loss(self, batch, outputs):
        """See `Objective.loss`."""
        scope = keras_internals.stateless_scope()
        scope.losses[:] = []
        return super().loss(batch, outputs)


class _AssigningTracer(Tracer):
    """Differentiates as a tape does: what the loss assigns to a weight is its value, no function.

    The gradient of a weight is the sum over the values that it has one after the other.
    """

    def _terms(self, *args):
        self._versions = {id(variable): [] for variable in self.variables}
        return super()._terms(*args)

    def _make_stand_in(self, value, variable):
        versions = self._versions.get(id(variable))
        if versions is not None:
            if versions:
                value = keras.ops.stop_gradient(value)
            versions.append(value)
        return super()._make_stand_in(value, variable)

    def _differentiate(self, gradient, term, values):
        flat = list(values)
        owners = list(range(len(values)))
        for number, variable in enumerate(self.variables):
            later = self._versions[id(variable)][1:]
            flat += later
            owners += [number] * len(later)
        parts = [[] for _ in values]
        for number, slope in zip(owners, super()._differentiate(gradient, term, flat), strict=True):
            if slope is not None:
                parts[number].append(slope)
        sums = []
        for own, shape in zip(parts, self.shapes, strict=True):
            sums.append(self._backend.sum_gradients(own, shape) if own else None)
        return sums


class _RedrawingTracer(Tracer):
    """Leaves all state as the forward pass left it: a backward pass that draws, draws anew."""

    def _begin_backward(self, reset):
        pass


_OTHER_WEIGHTS = {"unweighted": lambda weights: 1.0, "averaged": np.mean}
_KINDS = {"assigned": _AssigningTracer, "redrawn": _RedrawingTracer}


def _has_one_each(batch, array):
    """Whether an array has one number for each of several examples, of not too many."""
    is_several = batch.size is not None and 1 < batch.size <= _MOST_PAIRED
    return is_several and getattr(array, "size", None) == batch.size


def _may_differ_in_training(layer):
    """Whether the code of a layer reads `training`, and does not only hand it on to its layers."""
    call = type(layer).call
    if call in (keras.Sequential.call, _FUNCTIONAL.call):
        return False
    if not keras_internals.require(layer, "_call_has_training_arg", "call the model"):
        return False
    code = getattr(call, "__code__", None)
    if code is None or "training" not in code.co_varnames:
        return True  # decorated, or among other keyword arguments
    for instruction in dis.get_instructions(code):
        names = instruction.argval
        if "LOAD" in instruction.opname and "training" in (
            names if isinstance(names, tuple) else (names,)
        ):
            return True
    return False


def _adds_losses(layer):
    """Whether the code of a layer's class, not one of Keras', calls `add_loss`."""
    for kind in type(layer).__mro__:
        if kind.__module__.partition(".")[0] == "keras":
            continue
        for function in vars(kind).values():
            if "add_loss" in getattr(getattr(function, "__code__", None), "co_names", ()):
                return True
    return False


def _tile(array, count):
    """Repeats an array of `count` numbers that often, one repetition after the other."""
    if array is None:
        return None
    return keras.ops.tile(keras.ops.reshape(array, (count, 1)), (count, 1))
