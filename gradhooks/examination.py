"""One check from start to finish: sample, measure, judge, report. The only loop there is."""

import dataclasses
import math
import time

import numpy as np

from gradhooks.errors import RecordingError
from gradhooks.numerics import (
    bisection,
    blockage,
    derivative,
    diagnosis,
    expectation,
    measurement,
    sampling,
    training,
    training_diagnosis,
    verdict,
)
from gradhooks.numerics.records import CheckReport, Comparison, Coverage, Probe, Reason, Verdict

# Largest relative difference of a correct gradient, per rung of the precision ladder; README tells how they were found.
THRESHOLDS = {"float64": 1e-6, "partial": 1e-3, "model": 1e-2}
# A probe on a kink is replaced by another of the same variable, this often at most.
_REPLACEMENTS = 3
# How far the second opinion moves, in units of each variable's scale: off any exact zero, still the same network.
_NUDGE = 1e-2
# The same for the gradient that the optimizer receives: enough to draw its rounding anew, twice.
_TRAINED_NUDGE, _TRAINED_NUDGES = 1e-3, 2
# How often a search for the culprit goes on above what it has found.
_SEARCHES = 4
# Path of a comparison along a direction over several variables.
EVERYTHING = "*"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one check is asked to do.

    Args:
        samples: Number of sampled parameters.
        threshold: Relative difference above which a comparison can fail; None
            for the default of the precision in use.
        seed: Seed of the sampling.
        step: Count of training batches before the check.
        turn: Number of the check in its run; `step` if None.
        name: Name of the check.
        seen: Flat indices compared by earlier checks of the run.
        expect: Declared mismatches, pairs (path pattern, kind).
        train_step: Whether to compare what the optimizer receives.
    """

    samples: int = 32
    threshold: float | None = None
    seed: int = 0
    step: int = 0
    turn: int | None = None
    name: str = "gradcheck"
    seen: frozenset = frozenset()
    expect: tuple = ()
    train_step: bool = True


def run(oracle, settings):
    """Checks the gradient at the oracle's current point.

    Args:
        oracle: A `ModelOracle`, or anything that answers like one.
        settings: `Settings`.

    Returns:
        A `CheckReport`.
    """
    started = time.perf_counter()
    before = oracle.evaluations
    examination = _Examination(oracle, settings)
    report = examination.report() if examination.obstacle is None else examination.report_obstacle()
    return dataclasses.replace(report, evaluations=oracle.evaluations - before, seconds=time.perf_counter() - started)


class _Examination:
    """The state of one check while it lasts."""

    def __init__(self, oracle, settings):
        self._oracle, self._settings, self._layout = oracle, settings, oracle.layout
        self._is_promoted = oracle.precision.rung != "model"
        self._tolerance = settings.threshold if settings.threshold is not None else THRESHOLDS[oracle.precision.rung]
        self._spacing = measurement.PROMOTED if self._is_promoted else measurement.NATIVE
        self._declared = frozenset(expectation.declared_variables(self._layout, settings.expect))
        self._trail, self._notes, self._replaced = [], [], 0
        point = oracle.point()
        self._scales = sampling.scales(self._layout, point)
        self._place, self._screening, self._windows = self._survey(point)
        self.obstacle = self._find_obstacle()

    def _survey(self, point):
        gradients = self._oracle.gradients(point)
        self._connected = gradients.connected
        rng = sampling.generator(self._settings.seed, self._settings.step, 1)
        probe = sampling.screening_probe(self._layout, self._scales, gradients.terms["total"], rng, self._declared)
        is_suspect = bool(self._oracle.precision.narrow_operations or self._oracle.precision.native_layers)
        place, windows = measurement.survey(self._oracle, point, gradients.terms, probe, self._spacing, is_suspect)
        return place, probe, windows

    def _find_obstacle(self):
        if not np.isfinite(self._place.base).all():
            return Reason.NON_FINITE_LOSS
        return Reason.NOT_DETERMINISTIC if self._place.jitter > 0 else None

    def report_obstacle(self):
        """The report of a check that cannot say anything about the gradient."""
        nothing = dict.fromkeys(("total", "data", "penalty"), math.nan)
        return self._report((), (), nothing, Verdict.INCONCLUSIVE, self.obstacle)

    def report(self):
        """Measures everything and reports."""
        coordinates = self._coordinates()
        directions = self._directions()
        coordinates += self._search(coordinates, directions)
        coordinates += self._corroboration(coordinates)
        comparisons = [c for m in [*coordinates, *directions] for c in self._compared(m)]
        comparisons += self._blocked()
        comparisons = expectation.apply(comparisons, self._settings.expect)
        trained, trained_diagnoses, trained_difference = self._trained()
        batch_size = getattr(self._oracle, "batch_size", None)
        diagnoses = diagnosis.diagnose(self._layout, comparisons, self._place.gradients, batch_size)
        differences = {t: _headline(comparisons, t) for t in self._oracle.term_names}
        differences.setdefault("data", differences["total"])
        differences.setdefault("penalty", 0.0)
        differences |= trained_difference
        comparisons = [*comparisons, *trained]
        return self._report(comparisons, (*diagnoses, *trained_diagnoses), differences, *verdict.overall(comparisons))

    def _coordinates(self):
        """Measures the sampled parameters; those on a kink make room for others of their variable."""
        settings = self._settings
        positions = sampling.coordinates(self._layout, settings.samples, settings.seed, settings.step, settings.turn)
        rng = sampling.generator(settings.seed, settings.step, 3)
        taken, kept = set(positions.tolist()), []
        for attempt in range(_REPLACEMENTS + 1):
            measured = self._settled([self._probe(p) for p in positions])
            on_kink = [m for m in measured if m.is_on_kink] if attempt < _REPLACEMENTS else []
            others = [self._replacement(m, taken, rng) for m in on_kink]
            replaced = {id(m) for m, other in zip(on_kink, others, strict=True) if other is not None}
            kept += [m for m in measured if id(m) not in replaced]
            positions = [p for p in others if p is not None]
            self._replaced += len(positions)
            if not positions:
                break
        return kept

    def _replacement(self, measured, taken, rng):
        """Draws another parameter of the same variable and notes it as taken; None if there is none."""
        position = sampling.another(self._layout, self._layout.variable_of(measured.probe.start), taken, rng)
        if position is not None:
            taken.add(position)
        return position

    def _probe(self, position):
        return sampling.coordinate_probe(position, self._scales[self._layout.variable_of(position)])

    def _settled(self, probes, magnitudes=None):
        """Measures probes as often as it takes: two evaluations, a ladder, and before accusing a second opinion."""
        measured = measurement.quick(self._oracle, self._place, probes, self._tolerance, magnitudes)
        return self._decided(measured)

    def _decided(self, measured):
        unsettled = [m for m in measured if not m.settled]
        climbed = measurement.climb(self._oracle, self._place, unsettled, self._tolerance)
        decided = iter(self._confirmed(climbed))
        return [m if m.settled else next(decided) for m in measured]

    def _confirmed(self, measured):
        """Re-measures what failed: on a finer ladder, then at a nudged point where no exact zero is left.

        What is declared to mismatch accuses nobody, and so needs no second opinion.
        """
        suspects = [m for m in measured if m.has_failed and not self._is_declared(m)]
        finer = measurement.climb(self._oracle, self._place, suspects, self._tolerance, derivative.FINE_LADDER)
        finer = [fine if not fine.has_failed else m for m, fine in zip(suspects, finer, strict=True)]
        accused = [m for m in finer if m.has_failed and all(map(math.isfinite, m.analytic))]
        acquitted = self._acquitted(accused) if accused else set()
        finer = [_on_kink(m) if id(m) in acquitted else m for m in finer]
        replacement = iter(finer)
        return [next(replacement) if m.has_failed and not self._is_declared(m) else m for m in measured]

    def _is_declared(self, measured):
        return measured.probe.is_coordinate and self._layout.variable_of(measured.probe.start) in self._declared

    def _acquitted(self, accused):
        """ids of measurements whose probes pass at the nudged point: the gap was one of an exact corner."""
        place = self._nudged()
        probes, magnitudes = [m.probe for m in accused], [m.magnitude for m in accused]
        quick = measurement.quick(self._oracle, place, probes, self._tolerance, magnitudes)
        open_ones = [m for m in quick if not m.settled]
        climbed = iter(measurement.climb(self._oracle, place, open_ones, self._tolerance))
        again = [m if m.settled else next(climbed) for m in quick]
        return {id(m) for m, second in zip(accused, again, strict=True) if _passes(second)}

    def _nudged(self):
        point = sampling.nudge(
            self._layout, self._place.point, self._scales, self._settings.seed, self._settings.step, _NUDGE
        )
        gradients = self._oracle.gradients(point)
        place, _ = measurement.survey(self._oracle, point, gradients.terms, self._screening, self._spacing)
        # A nudge does not change how many digits the loss has; the larger estimate of the two holds.
        return dataclasses.replace(place, noise=np.maximum(place.noise, self._place.noise))

    def _directions(self):
        """Measures directions over many parameters: the screening probe, and whole variables where digits are few."""
        spacing = self._spacing.working
        magnitude = measurement.natural_sizes(self._screening, self._place.gradients)
        screened = measurement.from_window(
            self._place, self._screening, self._windows[spacing], spacing, magnitude, self._tolerance
        )
        directions = self._decided([screened])
        if not self._is_promoted:
            directions += self._settled(self._variable_probes())
        return directions

    def _variable_probes(self):
        settings = self._settings
        rng = sampling.generator(settings.seed, settings.step, 4)
        gradient = self._place.gradients["total"]
        return [
            sampling.variable_probe(self._layout, v, self._scales[v], gradient, rng, aligned)
            for v in range(len(self._layout))
            if self._layout.sizes[v] > 1
            for aligned in (True, False)
        ]

    def _search(self, coordinates, directions):
        """Looks for the last variable in forward order that is wrong: that is where the bug is.

        What lies above the last variable known to be wrong is measured as one
        direction; while that disagrees, bisection names a parameter in it.
        """
        found, failed = [], [m for m in coordinates if m.has_failed and not self._is_declared(m)]
        suspect = next((m for m in directions if m.has_failed and m.probe.start == 0), None)
        for _ in range(_SEARCHES):
            if failed:
                suspect = self._above(max(self._layout.variable_of(m.probe.start) for m in failed))
            if suspect is None or not suspect.has_failed:
                break
            position, trail = bisection.search(self._layout, self._oracle, self._place, suspect, self._tolerance)
            self._trail += trail
            if any(m.probe.start == position for m in [*coordinates, *found]):
                break
            named = self._settled([self._probe(position)])
            found += named
            if not named[0].has_failed:
                break
            failed = [*failed, *named]
        return found

    def _corroboration(self, coordinates):
        """Measures neighbours of a wrong parameter in the last wrong variable, so that a pattern can be named."""
        failed = [m.probe.start for m in coordinates if m.has_failed and not self._is_declared(m)]
        if not failed:
            return []
        settings = self._settings
        rng = sampling.generator(settings.seed, settings.step, 6)
        taken = {m.probe.start for m in coordinates}
        return self._settled([self._probe(p) for p in sampling.neighbours(self._layout, max(failed), taken, rng)])

    def _above(self, variable):
        """Measures the screening probe cut down to the variables above; None at the top."""
        start = int(self._layout.offsets[variable + 1])
        weights = self._screening.weights[start:]
        if not weights.any():
            return None
        probe = Probe(start, weights, self._screening.scale)
        return self._settled([probe], [measurement.natural_sizes(probe, self._place.gradients)])[0]

    def _trained(self):
        """Compares what the optimizer receives with the analytic gradient, for every parameter.

        Returns:
            (comparisons, diagnoses, relative difference by term name).
        """
        if not self._settings.train_step:
            return [], (), {}
        try:
            received = self._received(None, self._place.gradients["total"])
            if received is None:
                return [], (), {}
            nudged = self._received_nearby() if self._is_suspect(received) else ()
        except RecordingError as error:
            self._notes.append(f"{Reason.NOT_RECORDED.explanation}: {error}")
            return [], (), {training.TERM: math.nan}
        dtype = self._oracle.training_dtype
        comparisons = training.compare(self._layout, received, nudged, dtype)
        comparisons = expectation.excused(comparisons, self._settings.expect)
        diagnoses = training_diagnosis.diagnose(
            self._layout, received, self._place.gradients.get("data"), comparisons, dtype,
            self._oracle.batch_size, self._oracle.has_noise,
        )  # fmt: skip
        return comparisons, diagnoses, {training.TERM: training.headline(self._layout, received, comparisons)}

    def _is_suspect(self, received):
        return bool(training.suspects(self._layout, received, self._oracle.training_dtype))

    def _received(self, point, analytic):
        record = getattr(self._oracle, "record", None)
        recording = record(point) if record else None
        if recording is None:
            return None
        return training.Received(analytic, recording.gradient, recording.received)

    def _received_nearby(self):
        """Records again at nudged points, where rounding is drawn anew and an error is not."""
        size = max(_TRAINED_NUDGE, 4 * training.ROUNDOFF[self._oracle.training_dtype])
        settings, nearby = self._settings, []
        for turn in range(_TRAINED_NUDGES):
            point = sampling.nudge(
                self._layout, self._place.point, self._scales, settings.seed + turn, settings.step, size
            )
            nearby.append(self._received(point, self._oracle.gradients(point).terms["total"]))
        return nearby

    def _blocked(self):
        """Comparisons for variables whose gradient is zero everywhere although the loss depends on them."""
        settings = self._settings
        silent = blockage.silent_variables(self._layout, self._place.gradients["total"])
        rng = sampling.generator(settings.seed, settings.step, 5)
        for found in blockage.investigate(self._layout, self._oracle, self._place, self._scales, silent, rng):
            path = self._layout.paths[found.variable]
            if found.is_blocked:
                slope = found.change / abs(found.distance)
                yield Comparison(
                    path, None, "total", 0.0, slope, 0.0, abs(found.distance), 1.0, Verdict.FAIL, Reason.BLOCKED,
                    allowed=0.0, position=found.probe.start,
                )  # fmt: skip
            elif found.change <= self._place.noise[0]:
                self._notes.append(f"no loss reaches {path}: its gradient is zero, and moving it changes nothing")

    def _compared(self, measured):
        """One `Comparison` per term."""
        probe = measured.probe
        variable, index = self._layout.locate(probe.start)
        is_local = probe.stop <= self._layout.slice(variable).stop
        path = self._layout.paths[variable] if is_local else EVERYTHING
        names = self._oracle.term_names
        for term, analytic, estimate, magnitude, (judged, reason) in zip(
            names, measured.analytic, measured.estimates, measured.magnitude, measured.judgements, strict=True
        ):
            yield Comparison(
                path, index if probe.is_coordinate else None, term, float(analytic), float(estimate.slope),
                float(estimate.error), float(estimate.step), verdict.relative_difference(analytic, estimate.slope),
                judged, reason, float(estimate.left), float(estimate.right),
                verdict.allowed_gap(analytic, estimate, self._tolerance, magnitude), probe.start,
            )  # fmt: skip

    def _report(self, comparisons, diagnoses, differences, judged, reason):
        settings = self._settings
        positions = settings.seen | {
            c.position for c in comparisons if c.index is not None and c.verdict is Verdict.PASS
        }
        variables = {self._layout.variable_of(p) for p in positions}
        noise = float(self._place.noise[0])
        return CheckReport(
            step=settings.step, verdict=judged, reason=reason, relative_difference=differences,
            comparisons=tuple(comparisons), diagnoses=tuple(diagnoses),
            loss=dict(zip(self._oracle.term_names, map(float, self._place.base), strict=True)),
            threshold=self._tolerance, precision=dataclasses.replace(self._oracle.precision, noise=noise),
            coverage=Coverage(len(variables), len(self._layout), len(positions), self._layout.size),
            seed=settings.seed, samples=settings.samples, jitter=self._place.jitter, replaced=self._replaced,
            trail=tuple(self._trail), notes=tuple(self._notes), name=settings.name,
        )  # fmt: skip


def _passes(measured):
    return all(v is Verdict.PASS or r is Reason.VACUOUS for v, r in measured.judgements) and not measured.is_vacuous


def _on_kink(measured):
    softened = tuple(
        (Verdict.INCONCLUSIVE, Reason.KINK) if v is Verdict.FAIL else (v, r) for v, r in measured.judgements
    )
    return dataclasses.replace(measured, judgements=softened)


def _headline(comparisons, term):
    """The relative difference over the sampled parameters; what could not be decided has no part in it."""
    decided = [
        c for c in comparisons if c.term == term and c.index is not None and c.verdict is not Verdict.INCONCLUSIVE
    ]
    return verdict.relative_difference([c.analytic for c in decided], [c.numeric for c in decided])
