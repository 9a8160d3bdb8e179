"""Measuring at one place: what it costs, the steps really taken, corners all around."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from gradhooks.checking import baseline, measure, steps
from gradhooks.numerics import differences, noise
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from tests.fakes import FunctionOracle, kinky, quadratic, steep, surveyed

TOLERANCE = 1e-6
WINDOWS = 2 * noise.POINTS


def coordinates(oracle, scale=1.0):
    return [Probe(k, np.ones(1), scale) for k in range(oracle.layout.size)]


def test_two_evaluations_settle_a_healthy_probe():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    measured = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    assert oracle.evaluations == WINDOWS + 2 * oracle.layout.size
    assert all(m.is_accepted and m.judgements == ((Verdict.PASS, Reason.AGREES),) for m in measured)


def test_no_probes_cost_nothing():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    assert measure.first_estimates(oracle, place, [], TOLERANCE) == []
    assert measure.refine(oracle, place, [], TOLERANCE) == []
    assert oracle.evaluations == WINDOWS


@pytest.mark.parametrize("where", [1e6, 1234.5678, -3.7e9, 0.1, 1e-12])
def test_the_step_is_the_one_really_taken(where):
    # A loss that is the parameter itself has slope 1 exactly, if the step is what floating point
    # made of it.
    oracle = FunctionOracle(lambda p: float(p[0]), np.ones_like, [where])
    place, _, _ = surveyed(oracle)
    probe = Probe(0, np.ones(1), max(abs(where), 0.1))
    quick = measure.first_estimates(oracle, place, [probe], TOLERANCE)
    for measured in (*quick, *measure.refine(oracle, place, quick, TOLERANCE)):
        (estimate,) = measured.estimates
        assert estimate.slope == 1.0
        assert (
            (where + estimate.step_size) - (where - estimate.step_size)
        ) / 2 == estimate.step_size


def test_every_term_is_measured_from_the_same_evaluations():
    oracle = quadratic(penalty=(lambda p: 0.25 * float(p @ p), lambda p: 0.5 * p))
    place, _, _ = surveyed(oracle)
    measured = measure.first_estimates(oracle, place, coordinates(oracle)[:1], TOLERANCE)[0]
    first = oracle.point()[0]
    assert measured.analytic == pytest.approx((2.5 * first, 2 * first, 0.5 * first))
    assert [e.slope for e in measured.estimates] == pytest.approx(measured.analytic, rel=1e-6)
    assert oracle.evaluations == WINDOWS + 2


def test_climbing_takes_a_ladder_around_the_first_step():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    quick = measure.first_estimates(oracle, place, coordinates(oracle)[:1], TOLERANCE)
    before = oracle.evaluations
    (climbed,) = measure.refine(oracle, place, quick, TOLERANCE)
    assert (
        oracle.evaluations - before
        == climbed.estimates[0].evaluations
        == 2 * len(differences.STEP_FACTORS)
    )
    assert climbed.judgements == ((Verdict.PASS, Reason.AGREES),)


def test_the_screening_probe_is_measured_from_the_survey():
    oracle = quadratic()
    place, probe, windows = surveyed(oracle)
    spacing = baseline.PROMOTED.working
    measured = measure.from_stencil(place, probe, windows[spacing], spacing, (0.0,), TOLERANCE)
    assert oracle.evaluations == WINDOWS
    assert measured.estimates[0].slope == pytest.approx(
        probe.slope_of(2 * oracle.point()), rel=1e-7
    )
    assert measured.judgements[0][0] is Verdict.PASS


def test_kinks_within_the_first_step_are_avoided_by_smaller_ones():
    oracle = kinky()
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False)
    quick = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    before = oracle.evaluations
    measured = measure.refine_steps(oracle, place, quick, TOLERANCE)
    assert sum(m.is_accepted for m in quick) < len(quick) / 4
    assert all(m.is_accepted and m.judgements == ((Verdict.PASS, Reason.AGREES),) for m in measured)
    assert oracle.evaluations - before <= 2 * len(differences.REFINEMENTS) * len(quick)


def test_where_there_are_kinks_everywhere_the_first_step_is_a_small_one():
    oracle = kinky()
    place, _, _ = surveyed(oracle)
    measured = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    assert place.has_dense_kinks
    assert all(m.is_accepted for m in measured)


@pytest.mark.parametrize("is_fine", [False, True])
def test_among_kinks_no_step_of_the_ladder_goes_beyond_the_first_one(is_fine):
    oracle = kinky()
    place, _, _ = surveyed(oracle)
    quick = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    asked = []
    with mock.patch.object(
        oracle, "losses", lambda *a: asked.extend(a[2]) or FunctionOracle.losses(oracle, *a)
    ):
        measure.refine(oracle, place, quick, TOLERANCE, is_fine)
    first = [steps.first_step(place, m.probe, TOLERANCE) for m in quick]
    largest = [max(offset for which, offset in asked if which == k) for k in range(len(quick))]
    assert all(step < limit for step, limit in zip(largest, first, strict=True))


def test_where_most_probes_meet_kinks_the_steps_between_are_left_out():
    oracle = kinky()
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False)
    quick = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    unsettled = sum(not m.is_accepted for m in quick)
    before = oracle.evaluations
    assert all(m.is_accepted for m in measure.refine_steps(oracle, place, quick, TOLERANCE))
    assert oracle.evaluations - before == 2 * unsettled
    # One probe says nothing of others: it goes closer step by step, and stays as sharp as it can.
    alone = measure.refine_steps(
        oracle, place, [m for m in quick if not m.is_accepted][:1], TOLERANCE
    )
    together = measure.refine_steps(
        oracle, place, [m for m in quick if not m.is_accepted], TOLERANCE
    )
    assert alone[0].estimates[0].step_size >= together[0].estimates[0].step_size


def looked(oracle, place):
    """(measurements, evaluations) of all parameters, in two evaluations and in closer ones."""
    before = oracle.evaluations
    measured = measure.measure(oracle, place, coordinates(oracle), TOLERANCE)
    assert [m.probe.start for m in measured] == [*range(oracle.layout.size)]
    return measured, oracle.evaluations - before


MANY = 60


def test_those_that_go_ahead_show_where_the_others_begin():
    oracle = kinky(MANY)
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False)
    measured, evaluations = looked(oracle, place)
    assert all(m.is_accepted for m in measured)
    ahead = measure._PILOT
    # Two looks of the first, and hardly any second one of the others.
    assert 2 * (MANY + 0.75 * ahead) < evaluations <= 2 * (MANY + ahead) + 0.1 * MANY


def test_where_nothing_meets_kinks_everything_is_seen_as_sharply_as_if_nobody_went_ahead():
    oracle = quadratic(MANY)
    place, _, _ = surveyed(oracle)
    measured, evaluations = looked(oracle, place)
    assert measured == measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    assert evaluations == 2 * MANY


def test_of_a_few_probes_nobody_goes_ahead():
    oracle = kinky(2 * measure._PILOT - 1)
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False)
    quick = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    assert looked(oracle, place)[0] == measure.refine_steps(oracle, place, quick, TOLERANCE)


@pytest.mark.parametrize("error", [1e-3, 1e-2, -2.0])
@pytest.mark.parametrize("position", [0, 1, MANY // 2, MANY - 2])
def test_what_begins_at_a_closer_step_excuses_no_wrong_gradient(position, error):
    oracle = kinky(MANY)
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False)
    gradient = place.gradients["total"].copy()
    gradient[position] *= 1 + error
    measured, _ = looked(oracle, dataclasses.replace(place, gradients={"total": gradient}))
    assert [m.probe.start for m in measured if not m.is_accepted] == [position]


def test_where_most_gradients_are_wrong_the_others_are_seen_sharply():
    """What does not settle because it is wrong says nothing of kinks, and no step that did settle is a close one."""
    oracle = quadratic(MANY)
    place, _, _ = surveyed(oracle)
    wrong = dataclasses.replace(
        place, gradients={"total": np.where(np.arange(MANY) % 5, 1.001, 1.0) * 2 * oracle.point()}
    )
    measured, _ = looked(oracle, wrong)
    assert [m.is_accepted for m in measured] == [k % 5 == 0 for k in range(MANY)]
    quick = measure.first_estimates(oracle, wrong, coordinates(oracle), TOLERANCE)
    steps = [
        (m.estimates[0].step_size, q.estimates[0].step_size)
        for m, q in zip(measured, quick, strict=True)
    ]
    assert all(step > 0.3 * first for step, first in steps)


@pytest.mark.parametrize("analytic", [1.0, 2.0, 3.0])
def test_a_kink_that_has_been_seen_from_nearby_is_not_climbed(analytic):
    """Its one-sided slopes are 1 and 3, so near that every step reaches across it."""
    corner = 1.0 + 1e-15
    oracle = FunctionOracle(
        lambda p: 2 * p[0] + abs(p[0] - corner), lambda p: np.array([analytic]), [1.0]
    )
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False, noise=np.array([1e-15]))
    quick = measure.first_estimates(oracle, place, coordinates(oracle), TOLERANCE)
    (measured,) = measure.refine_steps(oracle, place, quick, TOLERANCE)
    if analytic == 2.0:
        # The mean of the slopes is what a central difference shows.
        assert measured.is_accepted
        return
    assert not measured.is_accepted
    assert measured.judgements == ((Verdict.INCONCLUSIVE, Reason.KINK),)
    assert measure.is_unresolved(place, quick[0], TOLERANCE)
    assert not measure.is_unresolved(place, measured, TOLERANCE)
    # The ladder would have said the same, for its price.
    (climbed,) = measure.refine(oracle, place, [measured], TOLERANCE)
    assert climbed.judgements == measured.judgements


@pytest.mark.parametrize("analytic", [0.5, -1.0, 3.5])
def test_what_no_kink_explains_is_climbed(analytic):
    corner = 1.0 + 1e-15
    oracle = FunctionOracle(
        lambda p: 2 * p[0] + abs(p[0] - corner), lambda p: np.array([analytic]), [1.0]
    )
    place = dataclasses.replace(surveyed(oracle)[0], has_dense_kinks=False, noise=np.array([1e-15]))
    (measured,), _ = looked(oracle, place)
    assert measure.is_unresolved(place, measured, TOLERANCE)


@pytest.mark.parametrize("make", [quadratic, kinky])
@pytest.mark.parametrize("error", [1e-5, 1e-4, 1e-2, -2.0])
def test_a_closer_look_excuses_no_wrong_gradient(make, error):
    """A smaller step sees less sharply; if it only agrees because of that, it settles nothing."""
    oracle = make()
    place, _, _ = surveyed(oracle)
    wrong = dataclasses.replace(place, gradients={"total": (1 + error) * place.gradients["total"]})
    quick = measure.first_estimates(oracle, wrong, coordinates(oracle), TOLERANCE)
    measured = measure.refine_steps(oracle, wrong, quick, TOLERANCE)
    assert not any(m.is_accepted for m in measured)


@pytest.mark.parametrize("level", [1e-12, 1e-10, 1e-8])
@pytest.mark.parametrize("rate", [1e5, 1e6, 1e7, 1e8])
def test_the_fine_ladder_reaches_down_to_where_a_steep_derivative_holds(rate, level):
    """The usual steps are far beyond it: what they show is small, agrees with itself, and is no derivative."""
    oracle = steep(rate=rate)
    place = dataclasses.replace(surveyed(oracle)[0], noise=np.array([level]))
    probes = coordinates(oracle, 0.1)
    quick = measure.first_estimates(oracle, place, probes, TOLERANCE)
    assert not any(
        m.has_failed for m in measure.refine(oracle, place, quick, TOLERANCE, is_fine=True)
    )
    wrong = dataclasses.replace(place, gradients={"total": 1.5 * place.gradients["total"]})
    suspects = measure.first_estimates(oracle, wrong, probes, TOLERANCE)
    fine = measure.refine(oracle, wrong, suspects, TOLERANCE, is_fine=True)
    assert sum(m.has_failed for m in fine) >= 0.75 * len(fine)


def test_what_passes_shows_a_signal_in_some_term_and_agrees_in_every_one():
    passed, vacuous, kink = (
        (Verdict.PASS, Reason.AGREES),
        *((Verdict.INCONCLUSIVE, r) for r in (Reason.VACUOUS, Reason.KINK)),
    )
    (measured,) = measure.first_estimates(*_one(quadratic()), TOLERANCE)
    judged = {
        (passed,): True,
        (passed, vacuous): True,
        (vacuous, vacuous): False,
        (passed, kink): False,
    }
    for judgements, expected in judged.items():
        assert dataclasses.replace(measured, judgements=judgements).has_passed is expected


def _one(oracle):
    return oracle, surveyed(oracle)[0], coordinates(oracle)[:1]
