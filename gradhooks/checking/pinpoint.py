"""Points at the layer, the loss or the regularizer whose backward pass is wrong.

The loss is traced once more, with a tap before and behind every call of every
layer (`gradhooks.model.taps`): a parameter that is zero, whose derivative is the
gradient at that place. The error is made where the gradient behind a call is
right and before it, or in the weights, wrong. In forward order that is behind the
last tap that is wrong, which is found by halving what comes behind the last wrong
variable.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking import measure, step_control
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.numerics import determinism
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison, Culprit, DerivativeComparison
from gradhooks.verdicts import pinpointing


def find_culprit(
    context: CheckContext,
    comparisons: Sequence[Comparison],
    cause: str = "",
) -> Culprit | None:
    """Returns where the error of a failed check is made; None where it cannot be told.

    Args:
        context: The `CheckContext` of the check.
        comparisons: Its comparisons.
        cause: What explains the gradient that the optimizer receives, a sentence;
            empty if nothing that was tried does.
    """
    failed: list[DerivativeComparison] = []
    for c in comparisons:
        # A declared mismatch that agrees is no error of a layer.
        is_wrong = c.verdict is Verdict.FAIL and c.reason is not Reason.UNDECLARED_MATCH
        if isinstance(c, DerivativeComparison) and is_wrong:
            failed.append(c)
    if not failed:
        return _find_in_step(comparisons, cause)
    tapped = context.oracle.tapped()
    if tapped is None:
        return None
    before = tapped.oracle.evaluations
    try:
        return _Search(context, tapped, failed).run()
    finally:
        context.oracle.evaluations += tapped.oracle.evaluations - before


def _find_in_step(comparisons: Sequence[Comparison], cause: str) -> Culprit | None:
    """Returns `train_step` where it alone is wrong: every measured derivative agrees."""
    wrong = [c for c in comparisons if c.reason is Reason.UNTRAINED]
    if not wrong:
        return None
    worst = max(c.relative_difference for c in wrong)
    evidence = (
        "every derivative that was measured: right",
        f"the gradient that the optimizer receives: wrong for {len(wrong)} variables, by up to "
        f"{worst:.2g} of its size",
    )
    sentence = "`train_step` does not pass the gradient of the loss to the optimizer"
    if cause:
        sentence = f"{sentence}: {cause}"
    return Culprit("train_step", "train_step", None, evidence, "", sentence)


class _Search:
    """The search for one culprit.

    Args:
        context: The `CheckContext` of the check.
        tapped: The `TappedModel`.
        failed: The measured comparisons that failed.
    """

    def __init__(
        self,
        context: CheckContext,
        tapped: Any,
        failed: Sequence[DerivativeComparison],
    ) -> None:
        self._context = context
        self._tapped = tapped
        self._failed = failed
        self._places = tapped.places
        oracle = tapped.oracle
        point = oracle.point()
        gradients = oracle.gradients(point).terms
        base = context.baseline
        gradient_noise = None
        if base.gradient_noise is not None:
            again = oracle.gradients(point).terms
            gradient_noise = determinism.gradient_noise(oracle.layout, gradients, [again])
        # The taps are zero: the loss is what it was, and so is its noise.
        self._at = EvaluationPoint(
            point,
            gradients,
            base.base,
            base.noise,
            base.jitter,
            base.has_dense_kinks,
            gradient_noise,
        )
        self._known: dict[int, Measurement] = {}
        self._first = int(oracle.layout.offsets[tapped.first])

    def run(self) -> Culprit | None:
        """Returns the culprit; None where it cannot be told."""
        if not self._places:
            return None
        if any(c.reason is Reason.NON_FINITE_GRADIENT for c in self._failed):
            return self._find_first_infinite()
        own = [c for c in self._failed if c.path in self._context.layout.paths]
        if own and all(c.reason is Reason.BLOCKED for c in own):
            return self._find_last_block()
        numbers = self._wrong_variables()
        start = -1
        if numbers:
            variable = max(numbers)
            reader = self._tapped.reader_of(variable)
            behind = self._last_wrong_output(reader)
            if behind is None:
                return self._describe_weights(variable, reader)
            start = behind
        return self._search_behind(start)

    def _find_last_block(self) -> Culprit | None:
        """Finds the last call whose output has a gradient and whose input has none."""
        slopes = self._slopes()
        for place in reversed(self._places):
            if place.is_output or slopes[place.number]:
                continue
            leaving = self._leaving(place)
            if leaving is not None and slopes[leaving.number] and self._is_right(leaving.number):
                return self._describe(place.number, pinpointing.BLOCKED, pinpointing.RIGHT)
        return None

    def _last_wrong_output(self, reader: str | None) -> int | None:
        """Returns the last wrong tap behind the layer of the last wrong variable.

        -1 where there is none to measure; None if all are right, so that the error is
        in the layer itself.
        """
        outputs = [p.number for p in self._places if p.layer == reader and p.is_output]
        if reader is None or not outputs:
            return -1
        wrong = [number for number in outputs if self._is_wrong(number)]
        if wrong:
            return max(wrong)
        return None if all(self._is_right(number) for number in outputs) else -1

    def _search_behind(self, wrong: int) -> Culprit | None:
        """Searches for the last wrong tap behind one that is wrong, in forward order.

        In a chain of layers halving finds it. Where the model branches, the right
        tap of another branch may have ended the search too early; so what is behind
        the tap is measured before it counts as the last.
        """
        while True:
            wrong = self._halve(wrong, len(self._places))
            if wrong < 0:
                return None
            following = self._next_wrong(self._places[wrong])
            if following is None:
                return self._explain(wrong)
            wrong = following

    def _halve(self, wrong: int, right: int) -> int:
        """Returns a wrong tap behind which the next one is right, or cannot be decided."""
        while right - wrong > 1:
            middle = (wrong + right) // 2
            if self._is_wrong(middle):
                wrong = middle
            else:
                right = middle
        return wrong

    def _next_wrong(self, place: Any) -> int | None:
        """Returns a wrong tap that the tensor of another reaches next; None if there is none.

        Of a tap before a call that is the one behind the call, and those before the
        calls in it: some of these may have no part in the loss, as where a loop is
        traced twice. Of a tap behind a call those before the later calls around it,
        and the one behind what is around.
        """
        reached: list[int] = []
        for other in self._places[place.number + 1 :]:
            is_same = (other.layer, other.call) == (place.layer, place.call)
            is_inner = other.enclosing == place.number and not other.is_output
            if not place.is_output and (is_inner or (is_same and other.is_output)):
                reached.append(other.number)
            if place.is_output and not other.is_output and other.enclosing == place.enclosing:
                reached.append(other.number)
        if place.is_output and place.enclosing is not None:
            around = self._places[place.enclosing]
            for other in self._places:
                is_same = (other.layer, other.call) == (around.layer, around.call)
                if is_same and other.is_output:
                    reached.append(other.number)
        wrong = [number for number in reached if self._is_wrong(number)]
        return max(wrong, default=None)

    def _is_wrong(self, number: int) -> bool:
        return self._measure_tap(number).has_failed

    def _is_right(self, number: int) -> bool:
        measured = self._measure_tap(number)
        return measured.has_passed or measured.is_vacuous

    def _slopes(self) -> Vector:
        """The gradient of the total loss at every tap in use."""
        total = self._at.gradients["total"]
        return total[self._first : self._first + len(self._places)]

    def _find_first_infinite(self) -> Culprit | None:
        """Finds where NaN begins on the way back: behind the last tap that has one."""
        is_infinite = ~np.isfinite(self._slopes())
        if is_infinite.any():
            number = int(np.flatnonzero(is_infinite)[-1])
            return self._describe(number, "NaN or infinite", "finite")
        numbers = self._wrong_variables()
        if not numbers:
            return None
        return self._describe_weights(max(numbers), self._tapped.reader_of(max(numbers)))

    def _measure(self, probe: Probe) -> Measurement:
        """Measures by single quotients, and by a sequence of steps if they do not agree."""
        oracle, threshold = self._tapped.oracle, self._context.threshold
        measured = step_control.first_estimates(oracle, self._at, [probe], threshold)
        if not measured[0].is_accepted:
            measured = measure.refine(oracle, self._at, measured, threshold)
        return measured[0]

    def _measure_tap(self, number: int) -> Measurement:
        if number not in self._known:
            self._known[number] = self._measure(Probe(self._first + number, np.ones(1)))
        return self._known[number]

    def _explain(self, number: int) -> Culprit | None:
        """Returns the culprit behind the last wrong tap."""
        place = self._places[number]
        if not self._is_confirmed_around(place):
            return None
        wrong = self._measure_tap(number)
        terms = self._context.oracle.term_names
        failed_terms = {terms[t] for t in wrong.failed_comparands}
        is_penalty = "penalty" in failed_terms and "data" not in failed_terms
        wrong_by = pinpointing.describe_error(wrong.failed_comparands.values())
        if is_penalty:
            if place.is_output and self._tapped.has_activity_regularizer(place.layer):
                return self._make("regularizer", place, (f"at its output {wrong_by}",), wrong_by)
            return None
        if place.is_output:
            return self._describe_after(place, wrong_by)
        leaving = self._leaving(place)
        if leaving is None or not self._is_right(leaving.number):
            return None
        if not place.is_model and self._tapped.has_way_around(place, leaving):
            return None
        inner = self._wrong_inside(place)
        if inner:
            return self._explain_loop(place, inner, wrong_by)
        behind = self._measure_tap(leaving.number)
        right_to = pinpointing.describe_agreement(behind.comparand(0))
        return self._describe(number, wrong_by, right_to)

    def _wrong_inside(self, place: Any) -> list[Any]:
        """The calls inside of another, at any depth, whose gradient is wrong before them."""
        wrong: list[Any] = []
        inside = {place.number}
        for other in self._places[place.number + 1 :]:
            if other.enclosing in inside and not other.is_output:
                inside.add(other.number)
                if self._is_wrong(other.number):
                    wrong.append(other)
        return wrong

    def _explain_loop(self, place: Any, inner: Sequence[Any], wrong_by: str) -> Culprit | None:
        """The culprit in a loop, where what leaves a call enters it again at the next turn.

        There the gradient behind the wrong call is wrong, too. Of the layers in the
        loop the one that a user wrote is named, if there is just one.
        """
        own: dict[str, Any] = {}
        for other in inner:
            if self._tapped.describe_layer(other.layer).place:
                own[other.layer] = other
        evidence = (f"inside of {place.layer}, a loop, the gradient: {wrong_by}",)
        if len(own) == 1:
            (only,) = own.values()
            return self._make("layer", only, evidence, wrong_by)
        if not own and self._tapped.describe_layer(place.layer).place:
            return self._make("layer", place, evidence, wrong_by)
        return None

    def _is_confirmed_around(self, place: Any) -> bool:
        """Whether the calls around a tap are wrong at their inputs, too, or have no gradient there.

        A wrong gradient inside of a call that is right at its input would be one
        that the call takes itself, in a way that taps cannot follow.
        """
        if place.enclosing is None or place.is_output:
            return True
        around = self._places[place.enclosing]
        return not self._measure_tap(around.number).has_passed

    def _leaving(self, place: Any) -> Any | None:
        """The tap behind the call before which a tap is; the first output of the model's."""
        for other in self._places:
            is_same = (other.layer, other.call) == (place.layer, place.call)
            if is_same and other.is_output:
                return other
        return None

    def _describe(self, number: int, wrong_by: str, right_to: str) -> Culprit | None:
        """The culprit of which the tap before it is wrong, or the place behind an output."""
        place = self._places[number]
        if place.is_output:
            return self._describe_after(place, wrong_by)
        evidence = (
            f"the gradient at its output: {right_to}",
            f"the gradient at its input: {wrong_by}",
        )
        return self._make("layer", place, evidence, wrong_by)

    def _describe_after(self, place: Any, wrong_by: str) -> Culprit | None:
        """The culprit behind an output: the loss, or the code around the layer."""
        evidence = (f"the gradient at the output of {place.layer}: {wrong_by}",)
        if place.is_model and place.enclosing is None:
            name, source = self._tapped.describe_loss(place.output)
            sentence = pinpointing.describe_loss(name, source, wrong_by)
            return Culprit("loss", name, None, evidence, source.place, sentence)
        if place.enclosing is None:
            return None
        around = self._places[place.enclosing]
        if not self._tapped.describe_layer(around.layer).place:
            # No code of the user's between the layers, but perhaps a loop over one.
            return self._explain_loop(around, self._wrong_inside(around), wrong_by)
        leaving = None if around.is_model else self._leaving(around)
        if leaving is not None and self._tapped.has_way_around(place, leaving):
            return None
        following = self._following(place, around)
        return self._make("layer", around, evidence, wrong_by, (place.layer, following))

    def _following(self, place: Any, around: Any) -> str:
        """The path of the next layer that the same call reaches; empty at its end."""
        for other in self._places[place.number + 1 :]:
            if not other.is_output and other.enclosing == around.number:
                return str(other.layer)
        return ""

    def _describe_weights(self, number: int, reader: str | None) -> Culprit | None:
        """The culprit where the gradient behind a layer is right, and that of its weight wrong."""
        variable = self._context.layout.paths[number]
        wrong = [c for c in self._failed if c.path == variable]
        place = None if reader is None else self._place_of(reader)
        if place is None or not wrong:
            return None
        terms = {c.term for c in wrong}
        is_penalty = "penalty" in terms and "data" not in terms
        wrong_by = pinpointing.describe_comparison(max(wrong, key=lambda c: c.relative_difference))
        evidence = (
            f"the gradient at the output of {reader}: {pinpointing.RIGHT}",
            f"the gradient of {variable}: {wrong_by}",
        )
        kind: Literal["layer", "regularizer"] = "regularizer" if is_penalty else "layer"
        culprit = self._make(kind, place, evidence, wrong_by, variable=variable)
        entering = [p for p in self._places if p.layer == reader and not p.is_output]
        wrong_calls = [p.call for p in entering if self._is_wrong(p.number)]
        if len(entering) > 1 and len(wrong_calls) == 1:
            return dataclasses.replace(culprit, call=wrong_calls[0])
        return culprit

    def _wrong_variables(self) -> set[int]:
        """Numbers of the variables of which a single parameter failed, or the whole variable."""
        paths = self._context.layout.paths
        numbers: set[int] = set()
        for c in self._failed:
            if c.path in paths:
                numbers.add(paths.index(c.path))
        return numbers

    def _place_of(self, path: str) -> Any | None:
        for place in self._places:
            if place.layer == path and not place.is_output:
                return place
        return None

    def _make(
        self,
        kind: Literal["layer", "regularizer"],
        place: Any,
        evidence: tuple[str, ...],
        wrong_by: str,
        between: tuple[str, str] | None = None,
        variable: str = "",
    ) -> Culprit:
        source = self._tapped.describe_layer(place.layer)
        calls = {other.call for other in self._places if other.layer == place.layer}
        call = place.call if len(calls) > 1 and not variable else None
        sentence = pinpointing.describe_layer(
            kind, place.layer, call, source, wrong_by, between, variable
        )
        return Culprit(kind, place.layer, call, evidence, source.place, sentence)
