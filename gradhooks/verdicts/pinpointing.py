"""Sentences about where an error is made, from what was measured there."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Protocol

from gradhooks.reports.culprit import Culprit
from gradhooks.reports.readings import TapReading, Word
from gradhooks.reports.records import DerivativeComparison, Diagnosis
from gradhooks.reports.text import SURROGATE
from gradhooks.verdicts import judge
from gradhooks.verdicts.diagnosis import PENALTY_ALONE, PENALTY_RIGHT
from gradhooks.verdicts.replication import Comparand

RIGHT, NOT_FINITE = "right", "NaN or infinite"
BLOCKED = "zero, although the loss moves: nothing is let through"
STILL = f"not zero, although the loss does not move: {SURROGATE}"
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
    return max(comparands, key=relative_difference)


def fill_reading(reading: TapReading, word: Word, measured: Comparand) -> TapReading:
    """Returns the reading of a tap with what was measured there."""
    return dataclasses.replace(
        reading,
        word=word,
        relative_difference=relative_difference(measured),
        analytic=float(measured.analytic),
        numeric=float(measured.estimate.slope),
    )


def describe_error(failed: Iterable[Comparand]) -> str:
    """Returns by how much derivatives at a tap that failed are wrong, for the worst of them.

    A tap measures one direction. Its sign there says nothing of the whole gradient's.
    """
    worst = choose_worst(failed)
    if worst.analytic and abs(worst.estimate.slope) <= worst.estimate.error:
        return STILL
    return _describe_size(worst.analytic, worst.estimate.slope)


def describe_comparison(comparison: DerivativeComparison) -> str:
    """Returns by how much a comparison that failed is wrong."""
    analytic, numeric = comparison.analytic, comparison.numeric
    words = _describe_size(analytic, numeric)
    is_opposite = math.isfinite(analytic) and analytic * numeric < 0
    return f"{words}, with the wrong sign" if is_opposite else words


def describe_agreement(total: Comparand) -> str:
    """Returns how well the derivative of the total loss agrees."""
    if total.is_vacuous:
        return "zero, and so is the measured one"
    difference = relative_difference(total)
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
        source: Where its code stands, or that of the regularizer.
        wrong_by: What is wrong, of the other functions.
        between: For an error in the code around inner layers, the paths of the
            layer before it and of the one behind it, which may be empty.
        variable: For an error in the gradient of a weight, its path.
    """
    if kind == "regularizer":
        of = variable or f"the output of `{path}`"
        return f"the regularizer{_describe_source(source)} of {of} has a wrong gradient: {wrong_by}"
    where = f"`{path}`{_describe_source(source)}"
    if call is not None:
        where = f"call {call + 1} of {where}"
    if between is not None:
        before, behind = between
        span = f"between `{before}` and `{behind}`" if behind else f"behind `{before}`"
        return f"the `call` of {where} has a wrong backward pass {span}: {wrong_by}"
    if variable:
        return f"{where} computes a wrong gradient of its weight {variable}: {wrong_by}"
    return f"the backward pass of {where} is wrong: at its input the gradient is {wrong_by}"


def describe_loss(name: str, source: Source, wrong_by: str) -> str:
    """Returns the sentence on a loss."""
    where = f"the loss `{name}`{_describe_source(source, is_named=True)}"
    return f"{where} has a wrong gradient: {wrong_by}"


def describe_step(source: Source | None, cause: str) -> str:
    """Returns the sentence on a training step.

    Args:
        source: Where its code stands; None if that is unknown.
        cause: What explains the gradient that the optimizer receives, a sentence; empty
            if nothing that was tried does.
    """
    where = "" if source is None else _describe_source(source, is_named=True)
    sentence = f"`train_step`{where} does not pass the gradient of the loss to the optimizer"
    return f"{sentence}: {cause}" if cause else sentence


def describe_exception(name: str, source: Source | None, cause: str) -> str:
    """Returns the sentence on a layer, or a loss, whose backward pass raises."""
    where = "" if source is None else _describe_source(source)
    return f"the backward pass of `{name}`{where} raises {cause}"


def add_finding(culprit: Culprit, finding: str) -> Culprit:
    """Returns a `Culprit` of which is told, too, what is wrong with its gradient."""
    if not finding:
        return culprit
    sentence = f"{culprit.sentence}; {finding}"
    every = f"{culprit.finding}; {finding}" if culprit.finding else finding
    return dataclasses.replace(culprit, sentence=sentence, finding=every)


def add_diagnosis(culprit: Culprit, diagnoses: Iterable[Diagnosis]) -> Culprit:
    """Returns a `Culprit` with what the diagnosis of its weight adds to what is told.

    That is the diagnosis itself, if nothing else tells what is wrong, or the usual
    cause of a factor. That a gradient is zero, or not finite, is told without it.
    """
    if culprit.sentence.endswith((BLOCKED, NOT_FINITE, STILL)):
        return culprit
    for diagnosis in diagnoses:
        sentence = diagnosis.sentence.removesuffix(PENALTY_ALONE).removesuffix(PENALTY_RIGHT)
        if diagnosis.path != culprit.variable:
            is_told = any(diagnosis.path in words for words in culprit.evidence)
            if culprit.variable or culprit.finding or not is_told:
                continue
            sentence = f"{diagnosis.path}: {sentence}"
        if not culprit.finding:
            return add_finding(culprit, sentence)
        _, is_factor, cause = sentence.partition(" times the true one: ")
        if is_factor and " times the right one" in culprit.finding:
            return dataclasses.replace(
                culprit,
                sentence=f"{culprit.sentence}: {cause}",
                finding=f"{culprit.finding}: {cause}",
            )
        return culprit
    return culprit


def _describe_source(source: Source, is_named: bool = False) -> str:
    """The class, and the file and line, or the package with its version."""
    name = "" if is_named else source.name
    package = f"of {source.package}, an installed package" if source.package else ""
    if name and not source.place:
        words = [f"{name} {package}".strip()]
    else:
        words = [word for word in (name, source.place or package) if word]
    return f" ({', '.join(words)})" if words else ""


def relative_difference(comparand: Comparand) -> float:
    """Returns the relative difference of a derivative at a tap."""
    return judge.relative_difference(comparand.analytic, comparand.estimate.slope)


def _describe_size(analytic: float, numeric: float) -> str:
    if analytic == 0:
        return BLOCKED
    if not math.isfinite(analytic):
        return NOT_FINITE
    return f"off by {judge.relative_difference(analytic, numeric):.2g} of its size"
