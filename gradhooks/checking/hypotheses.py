"""Tries what may be wrong with a train step: the gradient that each mistake would give is computed.

After a failure only, and from the cheap to the dear: what NumPy can compute from
gradients at hand, then gradients at other points, then other losses, each of which
is traced.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking.changed_gradient import ChangedGradient
from gradhooks.checking.context import CheckContext
from gradhooks.checking.oracle import VariantGradient
from gradhooks.checking.recorded_step import RecordedStep
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import native_precision, step_causes, step_changes, step_sums
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Explanation, Prediction
from gradhooks.verdicts.step_changes import Change

# First distance that is tried for a gradient at a moved point, the usual one; and how many further
# ones. A free choice: each one squares the error of the last.
_FIRST_RADIUS = 0.05
_RADII = 6

# Other losses, the names as in `oracle.Oracle`: those with the value of the loss that is checked;
# those that are the same trace with other weights; those that are traced, the likeliest first.
_OF_SAME_LOSS = (("assigned",), ("redrawn",))
_OF_OTHER_WEIGHTS = (("unweighted",), ("averaged",))
_TRACED = (
    ("paired",),
    ("paired", "unweighted"),
    ("mode",),
    ("mode", "unweighted"),
    ("unadded",),
    ("unadded", "unweighted"),
    ("squeezed",),
    ("squeezed", "unweighted"),
    ("mode", "unadded"),
    ("mode", "paired"),
)


def find_cause(
    context: CheckContext,
    step: RecordedStep,
    recorded: OptimizerGradient,
    comparisons: Sequence[GradientComparison],
) -> str:
    """Returns the mistake that explains what the optimizer receives, as a sentence.

    Args:
        context: The `CheckContext`, with the oracle.
        step: The `RecordedStep`.
        recorded: Its `OptimizerGradient`.
        comparisons: The comparisons of the optimizer gradient.

    Returns:
        The sentence; empty if no hypothesis predicts that gradient.
    """
    layout = context.layout
    failed: list[int] = []
    for c in comparisons:
        if c.verdict is Verdict.FAIL and c.path in layout.paths:
            if c.reason is not Reason.UNTRAINED:
                return ""
            failed.append(layout.paths.index(c.path))
    is_finite = np.isfinite(recorded.values).all() and np.isfinite(recorded.analytic).all()
    # None of the hypotheses predicts that a gradient is missing.
    if not failed or not is_finite or not recorded.is_connected[failed].all():
        return ""
    with np.errstate(all="ignore"):
        search = _Search(context, step, recorded, failed)
        return step_causes.choose(search.explanations(), search.is_returned)


@dataclasses.dataclass(frozen=True)
class _Base:
    """The gradient of a loss, before a step changes it.

    Args:
        gradient: float64, shape (P,).
        sentence: What is wrong with that loss; empty for the one that is checked.
        at: Function that returns the gradient at another point; None if it cannot be evaluated.
        loss: The loss.
    """

    gradient: Vector
    sentence: str
    at: Callable[[Vector], Vector | None]
    loss: float


class _Search:
    """What is at hand for the hypotheses about one recorded step."""

    def __init__(
        self,
        context: CheckContext,
        step: RecordedStep,
        recorded: OptimizerGradient,
        failed: Sequence[int],
    ):
        self._step, self._recorded = step, recorded
        self._oracle, self._failed = context.oracle, failed
        self._point = context.baseline.point
        self._terms = context.baseline.gradients
        self._losses = [float(loss) for loss in context.baseline.base]
        self._dtype = context.oracle.training_dtype
        self._changed = ChangedGradient(context, step, recorded)
        self._changes = (
            step_changes.centralize,
            step_changes.clip_by_value,
            step_changes.scale,
            step_changes.clip_each_norm,
            step_changes.normalize_each,
            step_changes.clip_units(self._point),
        )
        # That of all variables is one of some, too, where the others have hardly any gradient.
        self._change_of_some = step_changes.scale_some(failed)

    def explanations(self) -> list[Explanation]:
        """Returns the hypotheses that hold.

        Of those that cost a trace, or many gradients, only the first ones, and none if
        anything else holds.
        """
        sharing = [*self._explain_sharing()]
        if sharing:
            return sharing  # which is seen, and not concluded from numbers
        total = _Base(self._terms["total"], "", self._gradient_at, self._losses[0])
        found = [
            *self._explain_changes(total),
            *self._explain_terms(),
            *self._explain_decay(),
        ]
        found += self._explain_states(is_any_multiple=not found)
        if self._has_other_loss():
            for names in _OF_OTHER_WEIGHTS:
                found += self._explain_variant(names)
        return found or [*self._explain_moved_point()] or self._explain_traced()

    def is_returned(self, loss: float) -> bool:
        """Whether a loss, another one than the one checked, is what the step returns."""
        returned = self._step.loss
        if returned is None or self._is_loss(returned, self._losses[0]):
            return False
        return self._is_loss(returned, loss)

    def _holds(self, prediction: Prediction | None) -> bool:
        return step_causes.explains(prediction, self._recorded, self._failed, self._dtype)

    def _explain_sharing(self) -> Iterator[Explanation]:
        """Yields the second optimizer that receives the gradient, too."""
        shares = self._step.step.shares
        prediction = None
        if shares is not None:
            prediction = step_causes.predict_sharing(self._recorded, shares)
        if prediction is not None and self._holds(prediction):
            yield Explanation(prediction.sentence)

    def _explain_changes(self, base: _Base) -> Iterator[Explanation]:
        """Yields how one loss's gradient is changed before it is applied."""
        held = self._find_changes(self._changes, base)
        for prediction in held or self._find_changes([self._change_of_some], base):
            words = self._changed.describe(prediction, base.at)
            sentence = "; and ".join(part for part in (base.sentence, words) if part)
            loss = base.loss
            if self.is_returned(prediction.factor * loss):
                loss *= prediction.factor
            yield Explanation(sentence, loss)

    def _find_changes(self, changes: Sequence[Change], base: _Base) -> list[Prediction]:
        """Returns what holds of the predictions of some changes."""
        found: list[Prediction] = []
        for change in changes:
            prediction = change(base.gradient, self._recorded)
            if prediction is not None and self._holds(prediction):
                found.append(prediction)
        return found

    def _explain_terms(self) -> Iterator[Explanation]:
        """Yields multiples of the data term and the regularization."""
        data = self._terms.get("data")
        if data is None:
            return
        oracle, (_, loss, penalty) = self._oracle, self._losses
        predictions = step_sums.mix_terms(
            self._terms["total"], data, self._recorded, oracle.batch_size, oracle.replicas
        )
        has_dropped = False
        for prediction in predictions:
            if prediction.multiples is not None and self._holds(prediction):
                times, penalties = prediction.multiples
                has_dropped = has_dropped or not penalties
                yield Explanation(prediction.sentence, times * loss + penalties * penalty)
        if not has_dropped:
            base = _Base(data, step_sums.DROPPED, self._data_gradient_at, loss)
            yield from self._explain_changes(base)

    def _explain_decay(self) -> Iterator[Explanation]:
        """Yields weights that are added to the gradient."""
        prediction = step_sums.add_decay(
            self._terms["total"], self._recorded, self._point, self._failed
        )
        if prediction is not None and self._holds(prediction):
            yield Explanation(prediction.sentence, self._losses[0])

    def _explain_states(self, is_any_multiple: bool) -> Iterator[Explanation]:
        """Yields what the step keeps from earlier steps and adds to the gradient."""
        states = self._oracle.states()
        for prediction in step_sums.add_states(self._terms["total"], self._recorded, states):
            if (is_any_multiple or not prediction.fitted) and self._holds(prediction):
                yield Explanation(prediction.sentence, self._losses[0])
                return

    def _explain_traced(self) -> list[Explanation]:
        """Returns what the first other loss that explains anything does, each of them a trace."""
        others = _TRACED if self._has_other_loss() else ()
        for names in (*_OF_SAME_LOSS, *others):
            # Without the loss of the step there is less reason for two mistakes at once.
            if len(names) == 1 or self._step.loss is not None:
                found = [*self._explain_variant(names)]
                if found:
                    return found
        return []

    def _explain_variant(self, names: Sequence[str]) -> Iterator[Explanation]:
        """Yields what another loss explains, with the penalty and without."""
        variant = self._oracle.variant_gradient(names, self._point)
        if variant is None:
            return
        sentence = self._describe_variant(names, variant)
        for term, dropped in (("total", ""), ("data", "; and drops the regularization")):
            gradient = variant.terms.get(term)
            if gradient is None:
                continue

            def at(point: Vector, term: str = term) -> Vector | None:
                there = self._oracle.variant_gradient(names, point)
                return None if there is None else there.terms[term]

            if self._holds(Prediction(gradient)):
                yield Explanation(f"{sentence}{dropped}", variant.losses[term])
                return
            base = _Base(gradient, f"{sentence}{dropped}", at, variant.losses[term])
            yield from self._explain_changes(base)

    def _has_other_loss(self) -> bool:
        """Whether the loss that the step returns leaves room for another one."""
        loss = self._step.loss
        return loss is None or not self._is_loss(loss, self._losses[0])

    def _is_loss(self, loss: float, value: float) -> bool:
        """Whether the loss of the step has a value, to within the precision of training."""
        gap = native_precision.loss_gap(loss, self._step.step.scale, value)
        return gap <= native_precision.loss_tolerance(loss, value, self._dtype)

    def _describe_variant(self, names: Sequence[str], variant: VariantGradient) -> str:
        sentence, loss = step_causes.describe_variant(variant.subjects), self._step.loss
        if loss is None or tuple(names) in _OF_SAME_LOSS:
            return sentence
        if not self._is_loss(loss, variant.losses["total"]):
            return sentence
        return f"{sentence}; the loss that it returns, {loss:.4g}, is that one's, too"

    def _explain_moved_point(self) -> Iterator[Explanation]:
        """Yields the distance if it is the gradient at a point moved along the gradient."""
        gradient = self._terms["total"]
        size = float(np.linalg.norm(gradient))
        if not size or not self._oracle.has_gradient_elsewhere:
            return
        direction, received = gradient / size, self._recorded.values
        former, former_radius, radius = gradient - received, 0.0, _FIRST_RADIUS
        for _ in range(_RADII):
            there = self._gradient_at(self._point + radius * direction)
            if self._holds(Prediction(there, fitted=1)):
                yield Explanation(step_causes.describe_radius(radius), self._losses[0])
                return
            # Gauss and Newton, with the derivative by a secant.
            slope = (there - received - former) / (radius - former_radius)
            square = float(slope @ slope)
            if not square or not math.isfinite(square):
                return
            former, former_radius = there - received, radius
            radius -= float(slope @ former) / square
            if radius == former_radius:
                return

    def _gradient_at(self, point: Vector) -> Vector:
        return self._oracle.gradients(point).terms["total"]

    def _data_gradient_at(self, point: Vector) -> Vector:
        return self._oracle.gradients(point).terms["data"]
