"""Measuring at one point: evaluations, the steps really taken, dense kinks."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from gradhooks.checking import baseline, known_noise, measure, step_control, steps
from gradhooks.numerics import noise, step_sizes
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from tests.fakes import FunctionOracle, dense_kinks, estimate_baseline, quadratic, steep

THRESHOLD = 1e-6
STENCIL_EVALUATIONS = 2 * noise.POINTS


def coordinates(oracle, scale=1.0):
    return [Probe(k, np.ones(1), scale) for k in range(oracle.layout.size)]


def test_two_evaluations_suffice_for_a_correct_gradient():
    oracle = quadratic()
    at, _, _ = estimate_baseline(oracle)
    measured = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    assert oracle.evaluations == STENCIL_EVALUATIONS + 2 * oracle.layout.size
    assert all(m.is_accepted and m.judgements == ((Verdict.PASS, Reason.AGREES),) for m in measured)


def test_no_probes_cost_nothing():
    oracle = quadratic()
    at, _, _ = estimate_baseline(oracle)
    assert step_control.first_estimates(oracle, at, [], THRESHOLD) == []
    assert measure.refine(oracle, at, [], THRESHOLD) == []
    assert oracle.evaluations == STENCIL_EVALUATIONS


@pytest.mark.parametrize("where", [1e6, 1234.5678, -3.7e9, 0.1, 1e-12])
def test_the_step_is_the_one_really_taken(where):
    # A loss that is the parameter itself has slope 1 exactly, if the step is the rounded one.
    oracle = FunctionOracle(lambda p: float(p[0]), np.ones_like, [where])
    at, _, _ = estimate_baseline(oracle)
    probe = Probe(0, np.ones(1), max(abs(where), 0.1))
    first = step_control.first_estimates(oracle, at, [probe], THRESHOLD)
    for measured in (*first, *measure.refine(oracle, at, first, THRESHOLD)):
        (estimate,) = measured.estimates
        assert estimate.slope == 1.0
        assert (
            (where + estimate.step_size) - (where - estimate.step_size)
        ) / 2 == estimate.step_size


def test_every_term_is_measured_from_the_same_evaluations():
    oracle = quadratic(penalty=(lambda p: 0.25 * float(p @ p), lambda p: 0.5 * p))
    at, _, _ = estimate_baseline(oracle)
    measured = step_control.first_estimates(oracle, at, coordinates(oracle)[:1], THRESHOLD)[0]
    first = oracle.point()[0]
    assert measured.analytic == pytest.approx((2.5 * first, 2 * first, 0.5 * first))
    assert [e.slope for e in measured.estimates] == pytest.approx(measured.analytic, rel=1e-6)
    assert oracle.evaluations == STENCIL_EVALUATIONS + 2


def test_refining_takes_a_sequence_of_steps_around_the_first():
    oracle = quadratic()
    at, _, _ = estimate_baseline(oracle)
    first = step_control.first_estimates(oracle, at, coordinates(oracle)[:1], THRESHOLD)
    before = oracle.evaluations
    (refined,) = measure.refine(oracle, at, first, THRESHOLD)
    assert (
        oracle.evaluations - before
        == refined.estimates[0].evaluations
        == 2 * len(step_sizes.STEP_FACTORS)
    )
    assert refined.judgements == ((Verdict.PASS, Reason.AGREES),)


def test_the_screening_probe_is_measured_from_its_stencil():
    oracle = quadratic()
    at, probe, stencils = estimate_baseline(oracle)
    spacing = baseline.PROMOTED.working
    measured = measure.from_stencil(
        at, oracle.layout, probe, stencils[spacing], spacing, (0.0,), THRESHOLD
    )
    assert oracle.evaluations == STENCIL_EVALUATIONS
    assert measured.estimates[0].slope == pytest.approx(
        probe.slope_of(2 * oracle.point()), rel=1e-7
    )
    assert measured.judgements[0][0] is Verdict.PASS


def test_kinks_within_the_first_step_are_avoided_by_smaller_ones():
    oracle = dense_kinks()
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    first = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    before = oracle.evaluations
    measured = step_control.refine_steps(oracle, at, first, THRESHOLD)
    assert sum(m.is_accepted for m in first) < len(first) / 4
    assert all(m.is_accepted and m.judgements == ((Verdict.PASS, Reason.AGREES),) for m in measured)
    assert oracle.evaluations - before <= 2 * len(step_sizes.REFINEMENTS) * len(first)


def test_where_there_are_kinks_everywhere_the_first_step_is_a_small_one():
    oracle = dense_kinks()
    at, _, _ = estimate_baseline(oracle)
    measured = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    assert at.has_dense_kinks
    assert all(m.is_accepted for m in measured)


@pytest.mark.parametrize("is_fine", [False, True])
def test_among_kinks_no_step_of_the_sequence_exceeds_the_first_one(is_fine):
    oracle = dense_kinks()
    at, _, _ = estimate_baseline(oracle)
    first = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    asked = []
    with mock.patch.object(
        oracle, "losses", lambda *a: asked.extend(a[2]) or FunctionOracle.losses(oracle, *a)
    ):
        measure.refine(oracle, at, first, THRESHOLD, is_fine)
    first = [steps.first_step(at, m.probe, THRESHOLD) for m in first]
    largest = [max(offset for which, offset in asked if which == k) for k in range(len(first))]
    assert all(step < limit for step, limit in zip(largest, first, strict=True))


def test_where_most_probes_cross_kinks_intermediate_steps_are_left_out():
    oracle = dense_kinks()
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    first = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    unaccepted = sum(not m.is_accepted for m in first)
    before = oracle.evaluations
    assert all(m.is_accepted for m in step_control.refine_steps(oracle, at, first, THRESHOLD))
    assert oracle.evaluations - before == 2 * unaccepted
    # A single probe is no sample: its steps shrink round by round, and stay as precise as they can.
    remaining = [m for m in first if not m.is_accepted]
    alone = step_control.refine_steps(oracle, at, remaining[:1], THRESHOLD)
    together = step_control.refine_steps(oracle, at, remaining, THRESHOLD)
    assert alone[0].estimates[0].step_size >= together[0].estimates[0].step_size


def measure_by_quotients(oracle, at):
    """Measures all parameters by as few quotients as step control takes."""
    quotients = step_control.first_quotients(oracle, at, coordinates(oracle), THRESHOLD)
    return step_control.refine_steps(oracle, at, quotients, THRESHOLD)


def measure_all(oracle, at):
    """(measurements, evaluations) of all parameters, as by step control."""
    before = oracle.evaluations
    measured = measure_by_quotients(oracle, at)
    assert [m.probe.start for m in measured] == [*range(oracle.layout.size)]
    return measured, oracle.evaluations - before


MANY = 60


def test_the_pilot_sample_shows_at_which_step_the_others_start():
    oracle = dense_kinks(MANY)
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    measured, evaluations = measure_all(oracle, at)
    assert all(m.is_accepted for m in measured)
    pilot = step_control._PILOT
    # Two rounds for the pilot sample, and hardly any second round for the others.
    assert 2 * (MANY + 0.75 * pilot) < evaluations <= 2 * (MANY + pilot) + 0.1 * MANY


def test_later_checks_start_at_the_step_that_an_earlier_one_needed():
    oracle = dense_kinks(MANY)
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    oracle.known_noise = known_noise.remember(dataclasses.replace(at, has_dense_kinks=True))
    assert oracle.known_noise.kink_precision == np.inf
    _, first = measure_all(oracle, at)
    assert 0 < oracle.known_noise.kink_precision < np.inf
    later = dataclasses.replace(at, kink_precision=oracle.known_noise.kink_precision)
    measured, evaluations = measure_all(oracle, later)
    assert all(m.is_accepted for m in measured)
    assert evaluations <= 2.1 * MANY < first
    # What is measured anew because the loss has changed does not forget it.
    dense = dataclasses.replace(later, has_dense_kinks=True)
    again = known_noise.remember(dense, oracle.known_noise)
    assert again.kink_precision == oracle.known_noise.kink_precision
    old = dataclasses.replace(oracle.known_noise, checks=known_noise._CHECKS)
    assert known_noise.remember(dense, old).kink_precision == np.inf


def test_without_kinks_the_pilot_sample_changes_nothing():
    oracle = quadratic(MANY)
    at, _, _ = estimate_baseline(oracle)
    measured, evaluations = measure_all(oracle, at)
    assert measured == step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    assert evaluations == 2 * MANY


def test_few_probes_have_no_pilot_sample():
    oracle = dense_kinks(2 * step_control._PILOT - 1)
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    first = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    assert measure_all(oracle, at)[0] == step_control.refine_steps(oracle, at, first, THRESHOLD)


@pytest.mark.parametrize("error", [1e-3, 1e-2, -2.0])
@pytest.mark.parametrize("position", [0, 1, MANY // 2, MANY - 2])
def test_a_smaller_first_step_accepts_no_wrong_gradient(position, error):
    oracle = dense_kinks(MANY)
    at = dataclasses.replace(estimate_baseline(oracle)[0], has_dense_kinks=False)
    gradient = at.gradients["total"].copy()
    gradient[position] *= 1 + error
    measured, _ = measure_all(oracle, dataclasses.replace(at, gradients={"total": gradient}))
    assert [m.probe.start for m in measured if not m.is_accepted] == [position]


def test_where_most_gradients_are_wrong_the_others_keep_their_step():
    """A wrong gradient is not accepted at any step; that is no sign of kinks."""
    oracle = quadratic(MANY)
    at, _, _ = estimate_baseline(oracle)
    wrong = dataclasses.replace(
        at, gradients={"total": np.where(np.arange(MANY) % 5, 1.001, 1.0) * 2 * oracle.point()}
    )
    measured, _ = measure_all(oracle, wrong)
    assert [m.is_accepted for m in measured] == [k % 5 == 0 for k in range(MANY)]
    first = step_control.first_estimates(oracle, wrong, coordinates(oracle), THRESHOLD)
    for refined, unrefined in zip(measured, first, strict=True):
        step, first_step = refined.estimates[0].step_size, unrefined.estimates[0].step_size
        assert step > 0.3 * first_step


def kinked(analytic):
    """One-sided slopes of 1 and 3, so near that every step crosses the kink: (oracle, point)."""
    kink = 1.0 + 1e-15
    oracle = FunctionOracle(
        lambda p: 2 * p[0] + abs(p[0] - kink), lambda p: np.array([analytic]), [1.0]
    )
    at = dataclasses.replace(
        estimate_baseline(oracle)[0], has_dense_kinks=False, noise=np.array([1e-15])
    )
    return oracle, at


@pytest.mark.parametrize("analytic", [1.0, 1.5, 2.0, 3.0])
def test_a_single_quotient_decides_nothing_at_a_kink(analytic):
    """Not even at the mean of both slopes, which is what a central difference shows."""
    oracle, at = kinked(analytic)
    (first,) = measure_by_quotients(oracle, at)
    assert not first.is_accepted
    (refined,) = measure.refine(oracle, at, [first], THRESHOLD)
    assert refined.judgements == ((Verdict.INCONCLUSIVE, Reason.KINK),)


@pytest.mark.parametrize("analytic", [0.5, -1.0, 3.5])
def test_a_value_outside_of_both_slopes_fails(analytic):
    oracle, at = kinked(analytic)
    (first,) = measure_by_quotients(oracle, at)
    (refined,) = measure.refine(oracle, at, [first], THRESHOLD)
    assert refined.judgements == ((Verdict.FAIL, Reason.MISMATCH),)
    assert refined.failed_at_kink


@pytest.mark.parametrize("make", [quadratic, dense_kinks])
@pytest.mark.parametrize("error", [1e-5, 1e-4, 1e-2, -2.0])
def test_smaller_steps_accept_no_wrong_gradient(make, error):
    """A smaller step is less precise; if it agrees only because of that, it decides nothing."""
    oracle = make()
    at, _, _ = estimate_baseline(oracle)
    wrong = dataclasses.replace(at, gradients={"total": (1 + error) * at.gradients["total"]})
    first = step_control.first_estimates(oracle, wrong, coordinates(oracle), THRESHOLD)
    measured = step_control.refine_steps(oracle, wrong, first, THRESHOLD)
    assert not any(m.is_accepted for m in measured)


@pytest.mark.parametrize("level", [1e-12, 1e-10, 1e-8])
@pytest.mark.parametrize("rate", [1e5, 1e6, 1e7, 1e8])
def test_the_fine_sequence_reaches_down_to_where_a_steep_derivative_holds(rate, level):
    """The usual steps are far too large: their quotients agree, but are not the derivative."""
    oracle = steep(rate=rate)
    at = dataclasses.replace(estimate_baseline(oracle)[0], noise=np.array([level]))
    probes = coordinates(oracle, 0.1)
    first = step_control.first_estimates(oracle, at, probes, THRESHOLD)
    assert not any(m.has_failed for m in measure.refine(oracle, at, first, THRESHOLD, is_fine=True))
    wrong = dataclasses.replace(at, gradients={"total": 1.5 * at.gradients["total"]})
    disagreeing = step_control.first_estimates(oracle, wrong, probes, THRESHOLD)
    fine = measure.refine(oracle, wrong, disagreeing, THRESHOLD, is_fine=True)
    assert sum(m.has_failed for m in fine) >= 0.75 * len(fine)


def test_a_pass_needs_a_signal_in_some_term_and_agreement_in_all():
    passed = (Verdict.PASS, Reason.AGREES)
    vacuous = (Verdict.INCONCLUSIVE, Reason.VACUOUS)
    kink = (Verdict.INCONCLUSIVE, Reason.KINK)
    (measured,) = step_control.first_estimates(*_one(quadratic()), THRESHOLD)
    expectations = {
        (passed,): True,
        (passed, vacuous): True,
        (vacuous, vacuous): False,
        (passed, kink): False,
    }
    for judgements, expected in expectations.items():
        assert dataclasses.replace(measured, judgements=judgements).has_passed is expected


def _one(oracle):
    return oracle, estimate_baseline(oracle)[0], coordinates(oracle)[:1]
