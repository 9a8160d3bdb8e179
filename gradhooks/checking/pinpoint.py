"""Points at the layer, the loss or the regularizer whose backward pass is wrong.

The loss is traced once more, with a tap before and behind every call of every
layer (`gradhooks.model.taps`): a parameter that is zero, whose derivative is the
gradient at that place. The error is made where the gradient behind a call is
right and before it, or in the weights, wrong. In forward order that is behind the
last tap that is wrong, which is found by halving what comes behind the last wrong
variable.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gradhooks.checking.context import CheckContext
from gradhooks.checking.explanations import Explanation
from gradhooks.checking.tap_gradients import TapGradients
from gradhooks.reports.answer import is_guilty
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison, DerivativeComparison
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
        return _find_in_step(comparisons, cause, context.oracle.source_of_step())
    tapped = context.oracle.tapped()
    if tapped is None:
        return None
    before = tapped.oracle.evaluations
    try:
        search = _Search(context, tapped, failed)
        culprit = search.run()
        return culprit and search.add_surroundings(culprit)
    finally:
        context.oracle.evaluations += tapped.oracle.evaluations - before


def _find_in_step(
    comparisons: Sequence[Comparison],
    cause: str,
    source: pinpointing.Source | None,
) -> Culprit | None:
    """Returns `train_step` where it alone is wrong: every measured derivative agrees."""
    wrong = [c for c in comparisons if c.reason is Reason.UNTRAINED]
    if not wrong:
        return None
    worst = max(c.relative_difference for c in wrong)
    evidence = (
        "every derivative that was measured: right",
        f"the gradient that the optimizer receives: off by up to {worst:.2g} of its size, for "
        f"{_count(wrong)}",
    )
    sentence = pinpointing.describe_step(source, cause)
    place, package = (source.place, source.package) if source is not None else ("", "")
    culprit = Culprit("train_step", "train_step", None, evidence, place, sentence)
    return dataclasses.replace(culprit, package=package, finding=cause)


def _count(wrong: Sequence[Comparison]) -> str:
    return f"{len(wrong)} variable{'s' if len(wrong) > 1 else ''}"


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
        self._context, self._tapped, self._failed = context, tapped, failed
        self._gradients = TapGradients(context, tapped)
        self._places = self._gradients.places
        self._explanation = Explanation(context, tapped, self._gradients, failed)

    def add_surroundings(self, culprit: Culprit) -> Culprit:
        """Returns the culprit with the gradient at every tap, and with who inherits the error."""
        heirs = self._find_heirs(culprit)
        return dataclasses.replace(culprit, taps=self._gradients.readings(), heirs=heirs)

    def _find_heirs(self, culprit: Culprit) -> tuple[str, ...]:
        """Returns the paths of the failed variables whose gradient passes through the culprit."""
        failed: dict[int, str] = {}
        for number in sorted(self._wrong_variables()):
            path = self._context.layout.paths[number]
            if not is_guilty(culprit, path):
                failed[number] = path
        place = self._place_of_error(culprit) if failed else None
        if place is None:
            return ()
        below = self._tapped.find_below(place)
        return tuple(path for number, path in failed.items() if number in below)

    def _place_of_error(self, culprit: Culprit) -> Any | None:
        """The last place whose gradient is wrong; None where just that of a weight is."""
        of_layer = [place for place in self._places if place.layer == culprit.path]
        if culprit.variable:
            # Of a wrong weight alone nothing comes down to other layers.
            entering = [place for place in of_layer if not place.is_output]
            wrong = [place for place in entering if self._gradients.is_wrong(place.number)]
            return wrong[-1] if wrong and culprit.kind == "layer" else None
        pairs = zip(self._places, self._gradients.readings(), strict=True)
        wrong = [place for place, reading in pairs if reading.word == "wrong"]
        # A gradient that is blocked is zero in front of the layer, and not measured there.
        candidates = wrong or of_layer or self._places
        return candidates[-1]

    def run(self) -> Culprit | None:
        """Returns the culprit; None where it cannot be told."""
        if not self._places:
            return None
        if any(c.reason is Reason.NON_FINITE_GRADIENT for c in self._failed):
            return self._find_first_infinite()
        own = [c for c in self._failed if c.path in self._context.layout.paths]
        if own and all(c.reason is Reason.BLOCKED for c in own):
            # Of several inputs one may be blocked; then the tap before them all has a gradient.
            found = self._find_last_block()
            if found is not None:
                return found
        numbers = self._wrong_variables()
        start = -1
        if numbers:
            variable = max(numbers)
            readers = self._tapped.readers_of(variable)
            behind = self._last_wrong_output(readers)
            if behind is None:
                behind = self._last_wrong_call_inside(readers)
            if behind is None:
                return self._explain_variable(variable)
            start = behind
        return self._search_behind(start)

    def _find_last_block(self) -> Culprit | None:
        """Finds the last call whose output has a gradient, and whose weights or input have none.

        Units that are off have none either, but the loss does not depend on them.
        """
        slopes = self._gradients.slopes
        variable = max(self._wrong_variables())
        readers = self._tapped.readers_of(variable)
        for place in self._places:
            is_behind = place.layer in readers and place.is_output
            if is_behind and slopes[place.number] and self._gradients.is_right(place.number):
                inside = self._calls_inside(readers)
                return self._find_block_among(inside) or self._explain_variable(variable)
        return self._find_block_among(self._places)

    def _find_block_among(self, places: Sequence[Any]) -> Culprit | None:
        """Finds the last of some taps without a gradient, where what follows has one."""
        slopes = self._gradients.slopes
        blocked, right = pinpointing.BLOCKED, pinpointing.RIGHT
        for place in reversed(places):
            if slopes[place.number]:
                continue
            leaving = self._tapped.leaving(place)
            if place.is_output:
                follows = any(slopes[number] for number in self._reached_from(place))
                if follows and self._gradients.is_blocked(place.number):
                    return self._explanation.describe(place.number, blocked, right)
            elif leaving is not None and slopes[leaving.number]:
                is_cause = self._gradients.is_blocked(place.number)
                if is_cause and self._gradients.is_right(leaving.number):
                    return self._explanation.describe(place.number, blocked, right)
        return None

    def _last_wrong_output(self, readers: Collection[str]) -> int | None:
        """Returns the last wrong tap behind the layers that read the last wrong variable.

        -1 where there is none to measure; None if all are right, so that the error is
        in one of these layers itself.
        """
        outputs = [p.number for p in self._places if p.layer in readers and p.is_output]
        if not outputs:
            return -1
        wrong = [number for number in outputs if self._gradients.is_wrong(number)]
        if wrong:
            return max(wrong)
        is_right = all(self._gradients.is_right(number) for number in outputs)
        # Where nothing at all comes back, nothing is known of the layers.
        return None if is_right and any(self._gradients.slopes[outputs]) else -1

    def _last_wrong_call_inside(self, readers: Collection[str]) -> int | None:
        """Returns the last wrong tap before a call inside of layers that read a variable.

        A layer may read a weight and hand it to layers of its own, in one of which the
        error may be. None if there is none.
        """
        wrong: int | None = None
        for place in self._calls_inside(readers):
            if self._gradients.is_wrong(place.number):
                wrong = place.number
        return wrong

    def _calls_inside(self, readers: Collection[str]) -> list[Any]:
        """Returns the places before the calls that layers make themselves."""
        around = {place.number for place in self._places if place.layer in readers}
        return [p for p in self._places if p.enclosing in around and not p.is_output]

    def _explain_variable(self, variable: int, behind: str = pinpointing.RIGHT) -> Culprit | None:
        """The culprit where the gradient behind all readers of a wrong variable is right.

        Its gradient is the sum of what they send back. All but the first have a tap; if
        these are right, the first is wrong.

        Args:
            variable: Number of the variable.
            behind: What the gradient behind the readers is, for the evidence.
        """
        readers = self._tapped.readers_of(variable)
        wrong: list[str] = []
        for reader, number in [*readers.items()][1:]:
            if number is None or not self._gradients.is_decided(number):
                return None
            if self._gradients.is_wrong(number):
                wrong.append(reader)
        if not readers or len(wrong) > 1:
            return None
        culprit = wrong[0] if wrong else next(iter(readers))
        return self._explanation.describe_weights(variable, culprit, behind)

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
                return self._explanation.explain(wrong)
            wrong = following

    def _halve(self, wrong: int, right: int) -> int:
        """Returns a wrong tap behind which the next one is right, or cannot be decided."""
        while right - wrong > 1:
            middle = (wrong + right) // 2
            if self._gradients.is_wrong(middle):
                wrong = middle
            else:
                right = middle
        return wrong

    def _next_wrong(self, place: Any) -> int | None:
        """Returns a wrong tap that the tensor of another reaches next; None if there is none."""
        reached = self._reached_from(place)
        wrong = [number for number in reached if self._gradients.is_wrong(number)]
        return max(wrong, default=None)

    def _reached_from(self, place: Any) -> list[int]:
        """Returns the taps that the tensor of another may reach next.

        Of a tap before a call that is the one behind the call, and those before the
        calls in it: some of these may have no part in the loss, as where a loop is
        traced twice. Of a tap behind a call those before the later calls around it,
        and the one behind what is around.
        """
        reached: list[int] = []
        for other in self._places[place.number + 1 :]:
            is_same = other.is_around_same_call(place)
            is_inner = other.enclosing == place.number and not other.is_output
            if not place.is_output and (is_inner or (is_same and other.is_output)):
                reached.append(other.number)
            if place.is_output and not other.is_output and other.enclosing == place.enclosing:
                reached.append(other.number)
        if place.is_output and place.enclosing is not None:
            around = self._places[place.enclosing]
            for other in self._places:
                if other.is_output and other.is_around_same_call(around):
                    reached.append(other.number)
        return reached

    def _find_first_infinite(self) -> Culprit | None:
        """Finds where NaN begins on the way back: behind the last tap that has one."""
        is_infinite = ~np.isfinite(self._gradients.slopes)
        if is_infinite.any():
            number = int(np.flatnonzero(is_infinite)[-1])
            return self._explanation.describe(number, "NaN or infinite", "finite")
        numbers = self._wrong_variables()
        if not numbers:
            return None
        return self._explain_variable(max(numbers), "finite")

    def _wrong_variables(self) -> set[int]:
        """Numbers of the variables of which a single parameter failed, or the whole variable."""
        paths = self._context.layout.paths
        numbers: set[int] = set()
        for c in self._failed:
            if c.path in paths:
                numbers.add(paths.index(c.path))
        return numbers
