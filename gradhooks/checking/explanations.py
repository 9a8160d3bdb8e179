"""What the gradients around a place say of it: a `Culprit`, or nothing.

The search has found the last wrong tap in forward order. What is behind it, a layer,
code around layers, a loss or a regularizer, is reported only where the gradients at
the taps around it leave no other.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from gradhooks.checking import characterize
from gradhooks.checking.context import CheckContext
from gradhooks.checking.tap_gradients import TapGradients
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.records import DerivativeComparison
from gradhooks.verdicts import pinpointing

# Relative differences of the entries of a weight whose largest is at most so many times the
# smallest are one. A free choice: two digits are said.
_SAME = 1.05


class Explanation:
    """Explains what was found at a tap.

    Args:
        context: The `CheckContext` of the check.
        tapped: The `TappedModel`.
        gradients: Its `TapGradients`.
        failed: The measured comparisons that failed.
    """

    def __init__(
        self,
        context: CheckContext,
        tapped: Any,
        gradients: TapGradients,
        failed: Sequence[DerivativeComparison],
    ) -> None:
        self._context, self._tapped = context, tapped
        self._gradients, self._failed = gradients, failed
        self._places = gradients.places

    def explain(self, number: int) -> Culprit | None:
        """Returns the culprit behind the last wrong tap."""
        place = self._places[number]
        if not self._is_confirmed_around(place) or not self._gradients.is_confirmed(number):
            return None
        wrong = self._gradients.measure(number)
        terms = self._context.oracle.term_names
        failed = {terms[t]: comparand for t, comparand in wrong.failed_comparands.items()}
        term = _choose_term(failed)
        is_penalty = term == "penalty"
        wrong_by = pinpointing.describe_error([failed[term]])
        if is_penalty:
            if place.is_output and self._tapped.has_activity_regularizer(place.layer):
                return self._make("regularizer", place, (f"at its output {wrong_by}",), wrong_by)
            return None
        if place.is_output:
            return self._describe_after(place, wrong_by)
        leaving = self._tapped.leaving(place)
        if leaving is None or not self._gradients.is_right(leaving.number):
            return None
        if not place.is_model and self._tapped.has_way_around(place, leaving):
            return None
        inner = self._gradients.wrong_inside(place)
        if inner:
            return self._explain_loop(place, inner, wrong_by)
        behind = self._gradients.measure(leaving.number)
        right_to = pinpointing.describe_agreement(behind.comparand(0))
        return self.describe(number, wrong_by, right_to)

    def describe(self, number: int, wrong_by: str, right_to: str) -> Culprit | None:
        """Returns the culprit behind a wrong tap: a layer, or what follows an output."""
        place = self._places[number]
        if place.is_output:
            return self._describe_after(place, wrong_by)
        evidence = (
            f"the gradient at its output: {right_to}",
            f"the gradient at its input: {wrong_by}",
        )
        culprit = self._make("layer", place, evidence, wrong_by)
        leaving = self._tapped.leaving(place)
        return _add(culprit, lambda: characterize.describe_call(self._tapped, place, leaving))

    def describe_weights(self, number: int, reader: str, behind: str) -> Culprit | None:
        """Returns the culprit where the gradient behind a layer is right, but not its weight's.

        Args:
            number: Number of the weight.
            reader: Path of the layer; empty for code outside of all layers.
            behind: What the gradient behind the layer is, in words.
        """
        variable = self._context.layout.paths[number]
        wrong = [c for c in self._failed if c.path == variable]
        place = self._place_of(reader)
        if not wrong or (place is None and reader):
            return None
        term = _choose_term({c.term for c in wrong})
        is_penalty = term == "penalty"
        wrong = [c for c in wrong if c.term == term]
        worst = max(wrong, key=lambda c: c.relative_difference)
        wrong_by = pinpointing.describe_comparison(worst)
        analytic = self._context.baseline.gradients[term][self._context.layout.slice(number)]
        if worst.analytic == 0 and analytic.any():
            wrong_by = pinpointing.PARTLY_BLOCKED
        elif worst.relative_difference > _SAME * min(c.relative_difference for c in wrong):
            wrong_by = f"{wrong_by}, at its worst entry"
        if place is None:
            return self._describe_loss_of(variable, wrong_by)
        evidence = (
            f"the gradient at the output of {reader}: {behind}",
            f"the gradient of {variable}: {wrong_by}",
        )
        whole = None
        if not is_penalty:
            whole = self._describe_whole(place, behind, worst.relative_difference)
        if whole is not None:
            return dataclasses.replace(whole, evidence=(*whole.evidence, evidence[-1]))
        kind: Literal["layer", "regularizer"] = "regularizer" if is_penalty else "layer"
        culprit = self._make(kind, place, evidence, wrong_by, variable=variable)
        oracle, at = self._tapped.oracle, self._gradients.at
        term, scale = "penalty" if is_penalty else "total", float(self._context.scales[number])
        culprit = _add(
            culprit, lambda: characterize.describe_weight(oracle, at, number, term, scale)
        )
        return _add(culprit, lambda: characterize.describe_calls(self._tapped, reader))

    def _describe_whole(self, place: Any, behind: str, relative: float) -> Culprit | None:
        """The culprit where the gradient at the input of the only call is wrong like the weight's.

        What follows all weights of a layer is wrong then, such as its activation. An
        error of another size says that the weights have a way of their own.
        """
        leaving = self._tapped.leaving(place)
        calls = {p.call for p in self._places if p.layer == place.layer}
        if len(calls) > 1 or leaving is None or not self._gradients.is_wrong(place.number):
            return None
        is_unclear = self._tapped.has_way_around(place, leaving)
        if is_unclear or self._gradients.wrong_inside(place):
            return None
        failed = self._gradients.measure(place.number).failed_comparands.values()
        at_input = pinpointing.relative_difference(pinpointing.choose_worst(failed))
        if not relative / _SAME < at_input < relative * _SAME:
            return None
        return self.describe(place.number, pinpointing.describe_error(failed), behind)

    def _describe_loss_of(self, variable: str, wrong_by: str) -> Culprit | None:
        """The culprit where code outside of all layers reads a weight: the loss, if it is one."""
        outputs = {p.output for p in self._places if p.is_model and p.is_output}
        losses = {self._tapped.describe_loss(output) for output in outputs}
        if len(losses) != 1:
            return None
        ((name, source),) = losses
        evidence = (f"the gradient of {variable}, as the loss uses it: {wrong_by}",)
        sentence = pinpointing.describe_loss(name, source, wrong_by)
        culprit = Culprit("loss", name, None, evidence, source.place, sentence)
        return dataclasses.replace(culprit, variable=variable, package=source.package)

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

    def _describe_own_loop(
        self, around: Any, evidence: tuple[str, ...], wrong_by: str
    ) -> Culprit | None:
        """The layer that runs a loop, unless a user's layer inside of it may be wrong, too."""
        for inner in self._gradients.wrong_inside(around):
            if self._tapped.describe_layer(inner.layer).place:
                return None
        return self._make("layer", around, evidence, wrong_by)

    def _is_confirmed_around(self, place: Any) -> bool:
        """Whether the calls around a tap are wrong at their inputs, too, or have no gradient there.

        A wrong gradient inside of a call that is right at its input would be one
        that the call takes itself, in a way that taps cannot follow.
        """
        if place.enclosing is None or place.is_output:
            return True
        around, leaving = self._places[place.enclosing], self._tapped.leaving(place)
        if not self._gradients.measure(around.number).has_passed:
            return True
        # What enters there may not lead to this call: another input, or weights alone.
        return leaving is not None and not self._tapped.leads_through(around, place, leaving)

    def _describe_after(self, place: Any, wrong_by: str) -> Culprit | None:
        """The culprit behind an output: the loss, or the code around the layer."""
        evidence = (f"the gradient at the output of {place.layer}: {wrong_by}",)
        if place.is_model and place.enclosing is None:
            name, source = self._tapped.describe_loss(place.output)
            sentence = pinpointing.describe_loss(name, source, wrong_by)
            culprit = Culprit("loss", name, None, evidence, source.place, sentence)
            culprit = dataclasses.replace(culprit, package=source.package)
            return _add(culprit, lambda: characterize.describe_after(self._tapped, place, "output"))
        if place.enclosing is None:
            return None
        around = self._places[place.enclosing]
        if not self._tapped.describe_layer(around.layer).place:
            # No code of the user's between the layers, but perhaps a loop over one.
            return self._explain_loop(around, self._gradients.wrong_inside(around), wrong_by)
        if self._tapped.is_in_loop(place):
            return self._describe_own_loop(around, evidence, wrong_by)
        leaving = None if around.is_model else self._tapped.leaving(around)
        if leaving is not None and self._tapped.has_way_around(place, leaving):
            return None
        following = self._following(place, around)
        culprit = self._make("layer", around, evidence, wrong_by, (place.layer, following))
        return _add(culprit, lambda: characterize.describe_after(self._tapped, place, "tensor"))

    def _following(self, place: Any, around: Any) -> str:
        """The path of the next layer that the same call reaches; empty at its end."""
        for other in self._places[place.number + 1 :]:
            if not other.is_output and other.enclosing == around.number:
                return str(other.layer)
        return ""

    def _place_of(self, path: str) -> Any | None:
        for place in self._places:
            if place.layer == path and not place.is_output:
                return place
        return None

    def _find_call(self, place: Any, variable: str) -> int | None:
        """Which call of a layer is wrong; None of one that is called once.

        Calls without any gradient do not count: Keras traces a loop twice.
        """
        own = [p for p in self._places if p.layer == place.layer]
        calls = {p.call for p in own if self._gradients.slopes[p.number]}
        if len(calls) < 2:
            return None
        if not variable:
            return int(place.call)
        wrong: list[int] = []
        for entering in own:
            is_candidate = entering.call in calls and not entering.is_output
            if is_candidate and self._gradients.is_wrong(entering.number):
                wrong.append(entering.call)
        return wrong[0] if len(wrong) == 1 else None

    def _make(
        self,
        kind: Literal["layer", "regularizer"],
        place: Any,
        evidence: tuple[str, ...],
        wrong_by: str,
        between: tuple[str, str] | None = None,
        variable: str = "",
    ) -> Culprit:
        if kind == "regularizer":
            source = self._tapped.describe_regularizer(place.layer, variable)
        else:
            source = self._tapped.describe_layer(place.layer)
        call = self._find_call(place, variable)
        sentence = pinpointing.describe_layer(
            kind, place.layer, call, source, wrong_by, between, variable
        )
        place_of_code, package = source.place, source.package
        culprit = Culprit(kind, place.layer, call, evidence, place_of_code, sentence)
        return dataclasses.replace(culprit, variable=variable, package=package)


def _choose_term(failed: Collection[str]) -> str:
    """Returns the term of the loss that is wrong by itself, of those that failed."""
    if "data" in failed:
        return "data"
    return "penalty" if "penalty" in failed else "total"


def _add(culprit: Culprit, describe: Callable[[], str]) -> Culprit:
    """Returns a `Culprit` with what is wrong there; what goes wrong in telling it costs no more."""
    try:
        return pinpointing.add_finding(culprit, describe())
    except Exception:
        return culprit
