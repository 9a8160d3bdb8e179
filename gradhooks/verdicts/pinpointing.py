"""Sentences about where an error is made, from what was measured there."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from gradhooks.reports.readings import TapReading, Word
from gradhooks.reports.records import Culprit, DerivativeComparison
from gradhooks.verdicts import judge
from gradhooks.verdicts.replication import Comparand

RIGHT = "right"
BLOCKED = "zero, although the loss moves: nothing is let through"
PARTLY_BLOCKED = "zero in some of its entries, although the loss moves with them"


class Source(Protocol):
    """Where code stands, see `gradhooks.model.sources.Source`."""

    @property
    def name(self) -> str:
        """What it is: the class of a layer, the name of a function."""
        ...

    @property
    def place(self) -> str:
        """`"file:line"` of the user's code, or empty."""
        ...

    @property
    def package(self) -> str:
        """Name and version of the package it belongs to, or empty."""
        ...


def choose_worst(comparands: Iterable[Comparand]) -> Comparand:
    """Returns the derivative with the largest relative difference."""
    return max(comparands, key=_relative_difference)


def fill_reading(reading: TapReading, word: Word, measured: Comparand) -> TapReading:
    """Returns the reading of a tap with what was measured there."""
    return dataclasses.replace(
        reading,
        word=word,
        relative_difference=_relative_difference(measured),
        analytic=float(measured.analytic),
        numeric=float(measured.estimate.slope),
    )


def describe_error(failed: Iterable[Comparand]) -> str:
    """Returns by how much derivatives that failed are wrong, for the worst of them."""
    worst = choose_worst(failed)
    return _describe_gap(worst.analytic, worst.estimate.slope)


def describe_comparison(comparison: DerivativeComparison) -> str:
    """Returns by how much a comparison that failed is wrong."""
    return _describe_gap(comparison.analytic, comparison.numeric)


def describe_agreement(total: Comparand) -> str:
    """Returns how well the derivative of the total loss agrees."""
    if total.is_vacuous:
        return "zero, and so is the measured one"
    difference = _relative_difference(total)
    return f"{RIGHT}, to {difference:.1g} of its size"


def describe_layer(
    kind: str,
    path: str,
    call: int | None,
    source: Source,
    wrong_by: str,
    between: tuple[str, str] | None = None,
    variable: str = "",
) -> str:
    """Returns the sentence on a layer or a regularizer.

    Args:
        kind: `"layer"` or `"regularizer"`.
        path: Path of the layer.
        call: Which call of the layer, from 0; None if it has one.
        source: Where its code stands.
        wrong_by: What is wrong, of the other functions.
        between: For an error in the code around inner layers, the paths of the
            layer before it and of the one behind it, which may be empty.
        variable: For an error in the gradient of a weight, its path.
    """
    where = f"`{path}`{_describe_source(source)}"
    if call is not None:
        where = f"call {call + 1} of {where}"
    if kind == "regularizer":
        of = f" of {variable}" if variable else " of its output"
        return f"the regularizer{of} in {where} has a wrong gradient: {wrong_by}"
    if between is not None:
        before, behind = between
        span = f"between `{before}` and `{behind}`" if behind else f"behind `{before}`"
        return f"the `call` of {where} has a wrong backward pass {span}: {wrong_by}"
    if variable:
        return f"{where} computes a wrong gradient of its weight {variable}: {wrong_by}"
    return f"the backward pass of {where} is wrong: at its input the gradient is {wrong_by}"


def describe_loss(name: str, source: Source, wrong_by: str) -> str:
    """Returns the sentence on a loss."""
    place = f" ({source.place})" if source.place else ""
    return f"the loss `{name}`{place} has a wrong gradient: {wrong_by}"


def add_finding(culprit: Culprit, finding: str) -> Culprit:
    """Returns a `Culprit` of which is told, too, what is wrong with its gradient."""
    if not finding:
        return culprit
    sentence = f"{culprit.sentence}; {finding}"
    return dataclasses.replace(culprit, sentence=sentence, finding=finding)


def _describe_source(source: Source) -> str:
    words = [word for word in (source.name, source.place or source.package) if word]
    return f" ({', '.join(words)})" if words else ""


def _relative_difference(comparand: Comparand) -> float:
    return judge.relative_difference(comparand.analytic, comparand.estimate.slope)


def _describe_gap(analytic: float, numeric: float) -> str:
    if analytic == 0:
        return BLOCKED
    if analytic != analytic or abs(analytic) == float("inf"):
        return "NaN or infinite"
    difference = judge.relative_difference(analytic, numeric)
    words = f"off by {difference:.2g} of its size"
    if numeric and analytic * numeric < 0:
        return f"{words}, with the wrong sign"
    return words
