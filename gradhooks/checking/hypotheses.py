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
from gradhooks.checking.context import CheckContext
from gradhooks.checking.oracle import VariantGradient
from gradhooks.checking.recorded_step import RecordedStep
from gradhooks.numerics import sampling
from gradhooks.reports.errors import RecordingError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import (
    native_precision,
    optimizer_diagnosis,
    roundoff,
    step_causes,
    step_changes,
)
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Prediction

# How far a point lies at which a factor is compared again, in units of each variable's scale. A
# free choice: far enough that the norm of a gradient is another one there.
_ELSEWHERE = 0.3
# Factors, or norms, that differ by less are the same. A free choice: more than rounding in float32.
_SAME = 1e-3
# First distance that is tried for a gradient at a moved point, the usual one; and how many further
# ones. A free choice: each one squares the error of the last.
_FIRST_RADIUS = 0.05
_RADII = 6

# Other losses, the names as in `oracle.Oracle`. Those behind the first two have another value.
_VARIANTS = (
    ("assigned",),
    ("redrawn",),
    ("mode",),
    ("unweighted",),
    ("paired",),
    ("mode", "unweighted"),
    ("paired", "unweighted"),
    ("mode", "paired"),
)
_OF_SAME_LOSS = {("assigned",), ("redrawn",)}


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
        return next(_Search(context, step, recorded, failed).explanations(), "")


@dataclasses.dataclass(frozen=True)
class _Base:
    """The gradient of a loss, before a step changes it.

    Args:
        gradient: float64, shape (P,).
        sentence: What is wrong with that loss; empty for the one that is checked.
        at: Function that returns the gradient at another point; None if it cannot be evaluated.
    """

    gradient: Vector
    sentence: str
    at: Callable[[Vector], Vector | None]


class _Search:
    """What is at hand for the hypotheses about one recorded step."""

    def __init__(
        self,
        context: CheckContext,
        step: RecordedStep,
        recorded: OptimizerGradient,
        failed: Sequence[int],
    ):
        self._context, self._step, self._recorded = context, step, recorded
        self._oracle, self._failed = context.oracle, failed
        self._point = context.baseline.point
        self._terms = context.baseline.gradients
        self._elsewhere: tuple[Vector, Vector] | None = None
        self._dtype = context.oracle.training_dtype
        self._changes = (
            step_changes.centralize,
            step_changes.clip_by_value,
            step_changes.scale,
            step_changes.clip_each_norm,
            step_changes.normalize_each,
            step_changes.clip_units(self._point),
        )

    def explanations(self) -> Iterator[str]:
        """Yields the sentences of the hypotheses that hold, the cheapest first."""
        total = _Base(self._terms["total"], "", self._gradient_at)
        yield from self._explain_changes(total)
        yield from self._explain_terms()
        yield from self._explain_sums(total.gradient)
        yield from self._explain_moved_point()
        for names in _VARIANTS:
            if self._is_worth_a_trace(names):
                yield from self._explain_variant(names)

    def _holds(self, prediction: Prediction | None) -> bool:
        return step_causes.explains(prediction, self._recorded, self._failed, self._dtype)

    def _explain_changes(self, base: _Base) -> Iterator[str]:
        """Yields sentences about one loss whose gradient is changed before it is applied."""
        for change in self._changes:
            prediction = change(base.gradient, self._recorded)
            if prediction is not None and self._holds(prediction):
                sentence = self._describe_change(prediction, base)
                yield "; and ".join(part for part in (base.sentence, sentence) if part)

    def _explain_terms(self) -> Iterator[str]:
        """Yields sentences about the data term and the regularization."""
        data = self._terms.get("data")
        if data is None:
            return
        total, size = self._terms["total"], self._oracle.batch_size
        predictions = [*step_changes.mix_terms(total, data, self._recorded, size)]
        for prediction in predictions:
            if self._holds(prediction):
                yield prediction.sentence
        if predictions:
            dropped = predictions[0].sentence
            yield from self._explain_changes(_Base(data, dropped, self._data_gradient_at))

    def _explain_sums(self, gradient: Vector) -> Iterator[str]:
        """Yields sentences about what is added to the gradient: weights, or what the step keeps."""
        recorded, states = self._recorded, self._oracle.states()
        predictions = [
            step_changes.add_decay(gradient, recorded, self._point, self._failed),
            *step_changes.add_states(gradient, recorded, states),
        ]
        for prediction in predictions:
            if prediction is not None and self._holds(prediction):
                yield prediction.sentence

    def _explain_variant(self, names: Sequence[str]) -> Iterator[str]:
        """Yields sentences about another loss, with the penalty and without."""
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
                yield f"{sentence}{dropped}"
            yield from self._explain_changes(_Base(gradient, f"{sentence}{dropped}", at))

    def _is_worth_a_trace(self, names: Sequence[str]) -> bool:
        """Whether the loss that the step returns leaves room for another one."""
        loss = self._step.loss
        if tuple(names) in _OF_SAME_LOSS:
            return True
        if loss is None:
            return len(names) == 1
        return not self._is_loss(loss, float(self._context.baseline.base[0]))

    def _is_loss(self, loss: float, value: float) -> bool:
        """Whether the loss of the step has a value, to within the precision of training."""
        gap = native_precision.loss_gap(loss, self._step.step.scale, value)
        return gap <= native_precision.loss_tolerance(loss, value, self._dtype)

    def _describe_variant(self, names: Sequence[str], variant: VariantGradient) -> str:
        sentence, loss = step_causes.describe_variant(variant.subjects), self._step.loss
        if loss is None or tuple(names) in _OF_SAME_LOSS or not self._is_loss(loss, variant.loss):
            return sentence
        return f"{sentence}; the loss that it returns, {loss:.4g}, is that one's, too"

    def _describe_change(self, prediction: Prediction, base: _Base) -> str:
        """Returns the words for a change that holds, once it is known where it happens."""
        if not math.isnan(prediction.factor):
            return self._describe_factor(prediction, base)
        if math.isnan(prediction.limit):
            return prediction.sentence
        return prediction.sentence + self._describe_scale(prediction.limit)

    def _describe_factor(self, prediction: Prediction, base: _Base) -> str:
        """Tells a factor from a norm, by what both are at another point."""
        factor, norm = prediction.factor, float(np.linalg.norm(self._recorded.values))
        oracle = self._oracle
        is_clipped = 0 < factor < 1 and step_causes.is_round(norm)
        there = self._record_elsewhere()
        gradient = base.at(there[0]) if there is not None else None
        if there is not None and gradient is not None and factor > 0:
            norm_there = float(np.linalg.norm(there[1]))
            factor_there = float(gradient @ there[1]) / float(gradient @ gradient)
            accuracy = max(_SAME, roundoff.tolerance(self._dtype))
            is_same_norm = math.isclose(norm, norm_there, rel_tol=accuracy)
            is_same_factor = math.isclose(factor, factor_there, rel_tol=accuracy)
            if not (is_same_norm or is_same_factor or is_clipped):
                return step_causes.describe_varying_factor(factor, factor_there)
            if is_same_norm != is_same_factor:
                is_clipped = is_same_norm
        sentence = optimizer_diagnosis.describe_factor(
            factor, oracle.batch_size, oracle.replicas, norm if is_clipped else math.nan
        )
        return sentence + (self._describe_scale(norm) if is_clipped else "")

    def _describe_scale(self, limit: float) -> str:
        """Says so if a gradient is clipped while the loss scale is in it."""
        scale = self._step.step.scale
        if scale == 1:
            return ""
        try:
            unscaled = self._oracle.record(None, is_unscaled=True).gradient
        except RecordingError:
            return ""
        if np.max(np.abs(unscaled)) <= np.max(np.abs(self._recorded.values)) * (1 + _SAME):
            return ""
        return step_causes.describe_loss_scale(limit, scale)

    def _record_elsewhere(self) -> tuple[Vector, Vector] | None:
        """Returns a point farther away and what the optimizer receives there."""
        if self._elsewhere is None:
            stream = sampling.Stream.TRAINED_ELSEWHERE
            point = self._context.nudge(stream, 0, _ELSEWHERE)
            try:
                gradient = self._oracle.record(point).gradient.astype(np.float64)
            except RecordingError:
                return None
            if not np.isfinite(gradient).all() or not gradient.any():
                return None
            self._elsewhere = point, gradient
        return self._elsewhere

    def _explain_moved_point(self) -> Iterator[str]:
        """Yields a sentence if it is the gradient at a point moved along the gradient."""
        gradient = self._terms["total"]
        size = float(np.linalg.norm(gradient))
        if not size or not self._oracle.has_gradient_elsewhere:
            return
        direction, received = gradient / size, self._recorded.values
        former, former_radius, radius = gradient - received, 0.0, _FIRST_RADIUS
        for _ in range(_RADII):
            there = self._gradient_at(self._point + radius * direction)
            if self._holds(Prediction(there, fitted=1)):
                yield step_causes.describe_radius(radius)
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
