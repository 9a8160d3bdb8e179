"""Gradients of other losses, each as one common mistake in a train step would take it.

A variant is traced when it is asked for, which is after a failure only, and kept for
the checks to come.
"""

import contextlib
import dataclasses

import keras

from gradhooks.model import keras_internals
from gradhooks.model.batch import Batch
from gradhooks.model.objective import Objective
from gradhooks.model.tracing import Tracer

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
        loss: The value of the variant's loss.
        subjects: What is left out or assigned to, in words, by the names of the variant.
    """

    terms: dict
    loss: float
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
        self._traced = {}  # names -> tracer and program; None where there is no such variant

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
        key = tuple(sorted(names))
        try:
            if key not in self._traced:
                self._traced[key] = None
                if all(self._is_possible(name) for name in key):
                    self._traced[key] = self._trace(key)
            if self._traced[key] is None:
                return None
            return self._evaluate(key, point)
        except Exception:
            return None  # a guess less; what is known without it stands

    def _is_possible(self, name):
        """Whether a variant is another loss at all, as far as that is known without a trace."""
        if name == "mode":
            model = self._objective.model
            return keras_internals.require(model, "_call_has_training_arg", "call the model")
        if name == "unweighted":
            return self._batch.sample_weight is not None
        if name == "paired":
            return self._objective.loss_fn is None and _has_one_target_each(self._batch)
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
        if "paired" in names:
            objective = _PairedObjective(objective.model, objective.training)
        if "unweighted" in names:
            batch = Batch(batch.x, batch.y)
        kind = _KINDS.get(names[0], Tracer)
        tracer = kind(self._compilation.backend, objective, batch, self._tracer.shapes)
        tracer.tape, tracer.has_wide_loss = self._tracer.tape, self._tracer.has_wide_loss
        promote = None
        if self._compilation.promote is not None:
            promote = tracer.promotion(self._compilation.extent)
        with tracer.untouched() as belongings:
            return tracer, belongings.run(lambda: tracer.gradients(promote))

    def _evaluate(self, names, point):
        tracer, program = self._traced[names]
        with tracer.untouched() if program.calls_python else contextlib.nullcontext():
            losses, gradients = program.evaluate(point, tracer.present_state(), tracer.tensors)
        terms = dict(zip(tracer.term_names, gradients, strict=True))
        subjects = {name: self._name_subject(name) for name in names}
        return VariantGradient(terms, losses[0], subjects)

    def _name_subject(self, name):
        if name == "unweighted":
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


_KINDS = {"assigned": _AssigningTracer, "redrawn": _RedrawingTracer}


def _has_one_target_each(batch):
    """Whether the targets are one number for each of several examples, of not too many."""
    is_several = batch.size is not None and 1 < batch.size <= _MOST_PAIRED
    return is_several and getattr(batch.y, "size", None) == batch.size


def _tile(array, count):
    """Repeats an array of `count` numbers that often, one repetition after the other."""
    if array is None:
        return None
    return keras.ops.tile(keras.ops.reshape(array, (count, 1)), (count, 1))
