"""The course of a check: survey the place, measure samples and directions, find the culprit, report."""

import dataclasses
import math
import time

import numpy as np

from gradhooks.checking import (
    baseline,
    digits,
    localize,
    measure,
    optimizer,
    random_operations,
    unreached,
    untraced,
    zero_gradients,
)
from gradhooks.checking.confirm import CheckContext
from gradhooks.checking.settings import THRESHOLDS
from gradhooks.numerics import determinism, sampling
from gradhooks.numerics.probe import uncancelled_magnitudes
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, Coverage, DerivativeComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import list_names
from gradhooks.verdicts import declared, diagnosis, judge, proof

# A probe on a kink is replaced by another of the same variable, this often at most.
_REPLACEMENTS = 3


def check(oracle, settings, watch=None):
    """Checks the gradient at the oracle's current point.

    Args:
        oracle: A `ModelOracle`, or anything that answers like one.
        settings: `Settings`.
        watch: Called with the layout and the gradient that the optimizer
            receives (float32 or float64, shape (P,)), if it has been recorded.

    Returns:
        A `CheckReport`.
    """
    started = time.perf_counter()
    before = oracle.evaluations
    # Losses of any size are differenced and squared here; whatever overflows is judged, and
    # nobody's warning.
    with np.errstate(all="ignore"):
        examination = _Examination(oracle, settings, watch)
        report = (
            examination.report() if examination.obstacle is None else examination.report_obstacle()
        )
    return dataclasses.replace(
        report, evaluations=oracle.evaluations - before, seconds=time.perf_counter() - started
    )


class _Examination:
    """The state of one check while it lasts."""

    def __init__(self, oracle, settings, watch):
        self._watch = watch
        self._oracle, self._settings, self._layout = oracle, settings, oracle.layout
        self._trail, self._notes, self._replaced = [], [], 0
        # A loss that is the same twice may still have a gradient that is not. Seeing that once is
        # enough.
        self._is_first = oracle.gradient_evaluations == 0
        self._settling, self._windows = self._survey()
        self._place = self._settling.baseline
        dtype = "float64" if self._precision.level == "float64" else oracle.training_dtype
        self._zero_levels = proof.zero_levels(self._place.gradients, dtype)
        self.obstacle = self._find_obstacle()

    def _survey(self):
        settings, point = self._settings, self._oracle.point()
        precision = self._oracle.precision
        spacing = baseline.NATIVE if precision.level == "model" else baseline.PROMOTED
        left_out = frozenset(declared.variables_under(self._layout, settings.expect))
        scales = sampling.variable_scales(self._layout, point)
        gradients = self._oracle.gradients(point)
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.SCREENING)
        probe = sampling.screening_probe(
            self._layout, scales, gradients.terms["total"], rng, left_out
        )
        is_opaque = self._oracle.calls_python
        is_suspect = bool(precision.narrow_operations or precision.native_layers or is_opaque)
        has_steps = bool(precision.step_operations)
        place, windows = baseline.estimate_baseline(
            self._oracle, point, gradients.terms, probe, spacing, is_suspect, has_steps
        )
        self._precision = digits.as_measured(precision, place, is_opaque)
        given = settings.threshold
        self._tolerance = THRESHOLDS[self._precision.level] if given is None else given
        settling = CheckContext(
            self._oracle, settings, place, probe, scales, spacing, self._tolerance, left_out
        )
        return settling, windows

    def _find_obstacle(self):
        if not np.isfinite(self._place.base).all():
            return Reason.NON_FINITE_LOSS
        if self._place.jitter > 0 or (self._is_suspect() and self._gradient_jitters()):
            self._notes += random_operations.notes(self._oracle)
            return Reason.NOT_DETERMINISTIC
        return None

    def _is_suspect(self):
        """Whether the gradient may change by itself: nobody has looked yet, or it has done so before."""
        return self._is_first or self._oracle.has_jittered

    def _gradient_jitters(self):
        """Whether the gradient, asked for once more, differs by more than the verdict would forgive; notes by how much.

        The last bits may differ where threads add up in any order, and say nothing.
        """
        again = self._oracle.gradients(self._place.point).terms
        jitter = determinism.gradient_jitter(
            self._layout, self._place.gradients, again, self._tolerance
        )
        self._notes += [
            f"the gradient changes between two evaluations at the same point: {self._layout.paths[v]} "
            f"by {share:.2g} of its size"
            for v, share in sorted(jitter.items(), key=lambda pair: -pair[1])
        ]
        if jitter:
            self._oracle.has_jittered = True
        return bool(jitter)

    def report_obstacle(self):
        """The report of a check that cannot say anything about the gradient."""
        self._notes += self._oracle.notes
        nothing = dict.fromkeys(("total", "data", "penalty"), math.nan)
        return self._report((), (), nothing, Verdict.INCONCLUSIVE, self.obstacle)

    def report(self):
        """Measures everything and reports."""
        comparisons, directions = self._measured()
        if not any(m.has_failed for m in directions):
            directions = []
        # As large as the model, and done with: what comes now takes the most memory.
        self._settling = dataclasses.replace(self._settling, screening=None)
        trained = optimizer.compare(self._settling)
        if self._watch and trained.gradient is not None:
            self._watch(self._layout, trained.gradient)
        comparisons, trained, notes = untraced.withdraw_untraced(
            self._settling, comparisons, directions, trained
        )
        self._notes += [*self._oracle.notes, *trained.notes, *notes]
        batch_size = self._oracle.batch_size
        diagnoses = diagnosis.diagnose(self._layout, comparisons, self._place.gradients, batch_size)
        differences = {t: _headline(comparisons, t) for t in self._oracle.term_names}
        differences.setdefault("data", differences["total"])
        differences.setdefault("penalty", 0.0)
        differences |= trained.differences
        comparisons = [*comparisons, *trained.comparisons]
        diagnoses = (*diagnoses, *trained.diagnoses)
        judged, reason = judge.overall(comparisons)
        self._notes += digits.remarks(self._precision, self._place, judged)
        if judged is not Verdict.FAIL and (unproved := proof.paths_without_proof(comparisons)):
            self._notes.append(
                f"no measurement could tell whether the gradient is right for {list_names(unproved)}"
            )
        return self._report(comparisons, diagnoses, differences, judged, reason)

    def _measured(self):
        """Comparisons of the analytic gradient with what is measured, and the directions among them."""
        coordinates = self._coordinates()
        directions = self._directions()
        directions += self._of_undecided_variables(coordinates, directions)
        found, self._trail = localize.find_last_wrong_variable(
            self._settling, coordinates, directions
        )
        coordinates += found
        coordinates += localize.measure_neighbours(self._settling, coordinates)
        comparisons = [c for m in [*coordinates, *directions] for c in self._compared(m)]
        comparisons = proof.without_false_zeros(comparisons, self._zero_levels)
        comparisons += self._blocked()
        return declared.apply(comparisons, self._settings.expect), directions

    def _coordinates(self):
        """Measures the sampled parameters; those on a kink make room for others of their variable."""
        settings = self._settings
        gradient = self._place.gradients["total"]
        positions = sampling.draw_coordinates(
            self._layout, settings.samples, settings.seed, settings.step, settings.turn, gradient
        )
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.REPLACEMENT)
        taken, kept = set(positions.tolist()), []
        for attempt in range(_REPLACEMENTS + 1):
            measured = self._settling.measure([self._settling.coordinate(p) for p in positions])
            on_kink = [m for m in measured if m.is_on_kink] if attempt < _REPLACEMENTS else []
            others = [self._replacement(m, taken, rng) for m in on_kink]
            replaced = {
                id(m) for m, other in zip(on_kink, others, strict=True) if other is not None
            }
            kept += [m for m in measured if id(m) not in replaced]
            positions = [p for p in others if p is not None]
            self._replaced += len(positions)
            if not positions:
                break
        return kept

    def _replacement(self, measured, taken, rng):
        """Draws another parameter of the same variable and notes it as taken; None if there is none."""
        variable, gradient = (
            self._layout.variable_of(measured.probe.start),
            self._place.gradients["total"],
        )
        position = sampling.draw_replacement(self._layout, variable, taken, rng, gradient)
        if position is not None:
            taken.add(position)
        return position

    def _directions(self):
        """Measures directions over many parameters: the screening probe, and whole variables where digits are few."""
        settling = self._settling
        spacing = settling.spacing.working
        magnitude = uncancelled_magnitudes(settling.screening, self._place.gradients)
        screened = measure.from_stencil(
            self._place,
            settling.screening,
            self._windows[spacing],
            spacing,
            magnitude,
            self._tolerance,
        )
        directions = settling.resolve([screened])
        if settling.spacing.is_native:
            directions += settling.measure(self._variable_probes())
        return directions

    def _variable_probes(self):
        settings = self._settings
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.VARIABLE_DIRECTION)
        return [
            self._variable_probe(v, rng, aligned)
            for v in range(len(self._layout))
            if self._layout.sizes[v] > 1
            for aligned in (True, False)
        ]

    def _variable_probe(self, variable, rng, aligned=True):
        gradient, scale = self._place.gradients["total"], self._settling.scales[variable]
        return sampling.variable_probe(self._layout, variable, scale, gradient, rng, aligned)

    def _of_undecided_variables(self, coordinates, directions):
        """Measures variables along their gradient of which no single parameter shows what it has: all together may."""
        layout, told = self._layout, {}
        for m in [*coordinates, *directions]:
            variable = layout.variable_of(m.probe.start)
            if m.probe.stop <= layout.slice(variable).stop:
                told.setdefault(variable, []).append(
                    m.has_passed or m.has_failed or self._is_without_gradient(m)
                )
        undecided = [
            v for v, is_told in sorted(told.items()) if not any(is_told) and layout.sizes[v] > 1
        ]
        if self._settling.spacing.is_native:
            return []  # measured already
        rng = sampling.generator(
            self._settings.seed, self._settings.step, sampling.Stream.UNDECIDED_VARIABLE
        )
        return self._settling.measure([self._variable_probe(v, rng) for v in undecided])

    def _is_without_gradient(self, measured):
        """Whether backpropagation says zero, to within its own rounding, of everything that was measured."""
        return measured.is_vacuous and all(
            abs(a) <= level
            for a, level in zip(measured.analytic, self._zero_levels.values(), strict=True)
        )

    def _blocked(self):
        """Comparisons for variables whose gradient is zero everywhere although the loss depends on them."""
        settings = self._settings
        silent = zero_gradients.find_zero_gradients(self._layout, self._place.gradients["total"])
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.BLOCKED)
        compiled = self._oracle.bypassed
        unmoved, unknown = [], {*silent} - {*compiled}
        for found in zero_gradients.move_variables(
            self._layout, self._oracle, self._place, self._settling.scales, silent, rng
        ):
            unknown -= {found.variable}
            if found.is_blocked:
                path = self._layout.paths[found.variable]
                slope = found.change / abs(found.distance)
                yield DerivativeComparison(
                    path,
                    None,
                    "total",
                    0.0,
                    slope,
                    0.0,
                    abs(found.distance),
                    1.0,
                    Verdict.FAIL,
                    Reason.BLOCKED,
                    allowed=0.0,
                    position=found.probe.start,
                )
            elif found.change <= self._place.noise[0] and found.variable not in compiled:
                unmoved.append(found.variable)
        self._notes += unreached.notes(self._settling, unmoved, sorted(unknown))

    def _compared(self, measured):
        """One `DerivativeComparison` per term."""
        probe = measured.probe
        variable, index = self._layout.locate(probe.start)
        is_local = probe.stop <= self._layout.slice(variable).stop
        path = self._layout.paths[variable] if is_local else EVERYTHING
        names = self._oracle.term_names
        for term, analytic, estimate, magnitude, (judged, reason) in zip(
            names,
            measured.analytic,
            measured.estimates,
            measured.magnitude,
            measured.judgements,
            strict=True,
        ):
            yield DerivativeComparison(
                path,
                index if probe.is_coordinate else None,
                term,
                float(analytic),
                float(estimate.slope),
                float(estimate.error),
                float(estimate.step_size),
                judge.relative_difference(analytic, estimate.slope),
                judged,
                reason,
                float(estimate.left),
                float(estimate.right),
                float(judge.allowed_gap(analytic, estimate, self._tolerance, magnitude)),
                probe.start,
                magnitude=float(magnitude),
                is_kink=bool(estimate.is_kink) or reason is Reason.KINK,
                truncation=float(estimate.truncation),
            )

    def _report(self, comparisons, diagnoses, differences, judged, reason):
        settings = self._settings
        positions = settings.seen | proof.positions(comparisons)
        variables = {self._layout.variable_of(p) for p in positions}
        return CheckReport(
            step=settings.step,
            verdict=judged,
            reason=reason,
            relative_difference=differences,
            comparisons=tuple(comparisons),
            diagnoses=tuple(diagnoses),
            loss=dict(zip(self._oracle.term_names, map(float, self._place.base), strict=True)),
            threshold=self._tolerance,
            precision=dataclasses.replace(self._precision, noise=float(self._place.noise[0])),
            coverage=Coverage(len(variables), len(self._layout), len(positions), self._layout.size),
            seed=settings.seed,
            samples=settings.samples,
            jitter=self._place.jitter,
            replaced=self._replaced,
            trail=tuple(self._trail),
            notes=tuple(self._notes),
            name=settings.name,
            expect=tuple(settings.expect),
        )


def _headline(comparisons, term):
    """The relative difference over the sampled parameters; what could not be decided has no part in it."""
    decided = [
        c
        for c in comparisons
        if c.term == term and c.index is not None and c.verdict is not Verdict.INCONCLUSIVE
    ]
    return judge.relative_difference([c.analytic for c in decided], [c.numeric for c in decided])
