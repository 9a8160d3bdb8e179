"""The order of one check: baseline, measurements, the last wrong variable, optimizer, report."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking import (
    blocked,
    derivatives,
    digits,
    jitter,
    localize,
    optimizer,
    pinpoint,
    probes,
    random_operations,
    start,
    untraced,
)
from gradhooks.checking.context import Confirmed
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.settings import Settings
from gradhooks.numerics.layout import Layout
from gradhooks.reports.circumstances import Coverage
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TERMS, Comparison, DerivativeComparison, Diagnosis
from gradhooks.reports.report import CheckReport
from gradhooks.reports.stages import Stage, StageObserver, tell_nobody
from gradhooks.reports.text import list_names
from gradhooks.verdicts import declared, diagnosis, judge, pinpointing, proof

# Receives the layout and the gradient that the optimizer received, shape (P,).
GradientObserver = Callable[[Layout, Vector], None]


def check(
    oracle: Oracle,
    settings: Settings,
    watch: GradientObserver | None = None,
    tell: StageObserver = tell_nobody,
) -> CheckReport:
    """Checks the gradient at the oracle's current point.

    Args:
        oracle: An `Oracle`.
        settings: `Settings`.
        watch: Called with the layout and the gradient that the optimizer
            receives (float32 or float64, shape (P,)), if it has been recorded.
        tell: Called with each `Stage` when it begins.

    Returns:
        A `CheckReport`.
    """
    started = time.perf_counter()
    before = oracle.evaluations
    # Losses of any size are differenced and squared. The verdict handles what overflows, so NumPy
    # need not warn of it.
    with np.errstate(all="ignore"):
        report = _Check(oracle, settings, watch, tell).run()
    seconds = time.perf_counter() - started
    return dataclasses.replace(report, evaluations=oracle.evaluations - before, seconds=seconds)


class _Check:
    """One check: the point, and what has been found there so far."""

    def __init__(
        self,
        oracle: Oracle,
        settings: Settings,
        watch: GradientObserver | None,
        tell: StageObserver,
    ):
        self._oracle = oracle
        self._settings = settings
        self._watch, self._tell = watch, tell
        self._layout: Layout = oracle.layout
        self._trail: Sequence[str] = ()
        self._notes: list[str] = []
        self._replaced = 0
        self._is_first = oracle.gradient_evaluations == 0
        started = start.begin(oracle, settings, tell)
        self._context, self._windows = started.context, started.windows
        self._precision = started.precision
        dtype = "float64"
        if self._precision.level != "float64":
            dtype = oracle.training_dtype
        self._zero_levels = proof.zero_levels(self._context.baseline.gradients, dtype)

    def run(self) -> CheckReport:
        """Measures, compares, and reports."""
        obstacle = self._find_obstacle()
        if obstacle is not None:
            return self._report_obstacle(obstacle)
        self._tell(Stage.PARAMETERS)
        comparisons, directions = self._compare_measured()
        if not any(m.has_failed for m in directions):
            directions = []
        # The screening direction is as large as the model, and the optimizer gradient takes the
        # most memory of a check.
        self._context = dataclasses.replace(self._context, screening=None, confirmed=Confirmed())
        self._tell(Stage.OPTIMIZER)
        found = optimizer.compare(self._context)
        if self._watch and found.gradient is not None:
            self._watch(self._layout, found.gradient)
        comparisons, found, notes = untraced.withdraw_untraced(
            self._context, comparisons, directions, found
        )
        self._notes += [*self._oracle.notes, *found.notes, *notes]
        gradients = self._context.baseline.gradients
        diagnoses = diagnosis.diagnose(
            self._layout, comparisons, gradients, self._oracle.batch_size
        )
        differences = derivatives.overall_differences(self._oracle.term_names, comparisons)
        differences |= found.differences
        every: list[Comparison] = [*comparisons, *found.comparisons]
        self._notes += declared.describe_excuses(every, self._settings.excuses)
        diagnoses = (*diagnoses, *found.diagnoses)
        verdict, reason = judge.judge_check(every)
        self._note_open_questions(every, verdict)
        culprit = None
        if verdict is Verdict.FAIL:
            culprit = self._find_culprit(every, diagnoses, found.cause)
        report = self._report(every, diagnoses, differences, verdict, reason)
        return dataclasses.replace(report, culprit=culprit, notes=tuple(self._notes))

    def _find_culprit(
        self,
        comparisons: Sequence[Comparison],
        diagnoses: Sequence[Diagnosis],
        cause: str,
    ) -> Culprit | None:
        """Returns where the error is made; what goes wrong in the search changes no verdict."""
        self._tell(Stage.CULPRIT)
        try:
            found = pinpoint.find_culprit(self._context, comparisons, cause)
            found = found and pinpointing.add_diagnosis(found, diagnoses)
        except Exception as error:
            first = str(error).partition("\n")[0]
            self._notes.append(f"where the error is made was not found: {first}")
            return None
        excused = tuple(f"{excuse.layer}/" for excuse in self._settings.excuses)
        # The search ends there where a layer is wrong on purpose, or one inside of it.
        is_meant = found is not None and f"{found.path}/".startswith(excused)
        return None if is_meant else found

    def _find_obstacle(self) -> Reason | None:
        """Returns why nothing can be said about the gradient; None if there is no such reason."""
        if not np.isfinite(self._context.baseline.base).all():
            return Reason.NON_FINITE_LOSS
        sentences = jitter.describe_loss_jitter(self._context)
        if not sentences:
            self._context, sentences = jitter.find_gradient_jitter(self._context, self._is_first)
        if not sentences:
            return None
        self._notes += sentences
        self._notes += random_operations.describe_randomness(self._oracle, self._context.threshold)
        return Reason.NOT_DETERMINISTIC

    def _compare_measured(self) -> tuple[list[DerivativeComparison], list[Measurement]]:
        """Returns the comparisons with measured derivatives, and the measured directions."""
        context = self._context
        coordinates, self._replaced = probes.measure_coordinates(context)
        window = self._windows[context.spacing.working]
        directions = probes.measure_directions(context, window)
        levels = [*self._zero_levels.values()]
        directions += probes.measure_undecided(context, [*coordinates, *directions], levels)
        found, self._trail = localize.find_last_wrong_variable(context, coordinates, directions)
        coordinates += found
        coordinates += localize.measure_neighbours(context, coordinates)

        comparisons: list[DerivativeComparison] = []
        for measured in [*coordinates, *directions]:
            comparisons += derivatives.compare_terms(context, measured)
        comparisons = proof.withdraw_false_zeros(comparisons, self._zero_levels)
        failures, notes = blocked.compare_blocked(context)
        comparisons += failures
        self._notes += notes
        settings = self._settings
        comparisons = declared.apply(comparisons, settings.expect, settings.excuses)
        return comparisons, directions

    def _note_open_questions(self, comparisons: Sequence[Comparison], verdict: Verdict) -> None:
        self._notes += digits.describe_digits(self._precision, self._context.baseline, verdict)
        if verdict is Verdict.FAIL:
            return
        paths = proof.paths_without_proof(comparisons)
        if paths:
            self._notes.append(
                f"no measurement could decide whether the gradient is right for {list_names(paths)}"
            )

    def _report_obstacle(self, obstacle: Reason) -> CheckReport:
        """The report of a check that can say nothing about the gradient."""
        self._notes += self._oracle.notes
        unknown: dict[str, float] = dict.fromkeys(TERMS, math.nan)
        return self._report((), (), unknown, Verdict.INCONCLUSIVE, obstacle)

    def _report(
        self,
        comparisons: Sequence[Comparison],
        diagnoses: Sequence[Diagnosis],
        differences: Mapping[str, float],
        verdict: Verdict,
        reason: Reason,
    ) -> CheckReport:
        settings, layout = self._settings, self._layout
        positions = settings.seen | proof.positions_with_proof(comparisons)
        variables = {layout.variable_of(p) for p in positions}
        at = self._context.baseline
        return CheckReport(
            step=settings.step,
            verdict=verdict,
            reason=reason,
            relative_difference=dict(differences),
            comparisons=tuple(comparisons),
            diagnoses=tuple(diagnoses),
            loss=dict(zip(self._oracle.term_names, map(float, at.base), strict=True)),
            threshold=self._context.threshold,
            precision=dataclasses.replace(self._precision, noise=float(at.noise[0])),
            coverage=Coverage(len(variables), len(layout), len(positions), layout.size),
            seed=settings.seed,
            samples=settings.samples,
            jitter=self._context.baseline.jitter,
            replaced=self._replaced,
            trail=tuple(self._trail),
            notes=tuple(self._notes),
            name=settings.name,
            expect=tuple(settings.expect),
        )
