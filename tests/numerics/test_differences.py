"""Central differences of functions with known derivatives: values, error bars, kinks."""

import math

import numpy as np
import pytest
import scipy.differentiate
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics import differences, noise, step_sizes

THRESHOLD = 1e-6

SMOOTH = [
    ("line", lambda t: 3 * t - 2, 0.7, 3.0),
    ("square", lambda t: t * t, 3.0, 6.0),
    ("cube", lambda t: t**3, -2.0, 12.0),
    ("quartic", lambda t: t**4 - t, 0.5, -0.5),
    ("exponential", np.exp, 1.0, math.e),
    ("decay", lambda t: np.exp(-2 * t), 0.3, -2 * math.exp(-0.6)),
    ("sine", np.sin, 0.4, math.cos(0.4)),
    ("fast sine", lambda t: np.sin(3 * t), 1.1, 3 * math.cos(3.3)),
    ("logarithm", np.log, 2.0, 0.5),
    ("root", np.sqrt, 2.0, 0.5 / math.sqrt(2)),
    ("tanh", np.tanh, -0.6, 1 - math.tanh(-0.6) ** 2),
    ("logistic", scipy.special.expit, 0.9, math.exp(-0.9) / (1 + math.exp(-0.9)) ** 2),
    ("softplus", lambda t: np.log1p(np.exp(t)), -1.0, 1 / (1 + math.e)),
    ("bell", lambda t: np.exp(-t * t), 0.8, -1.6 * math.exp(-0.64)),
    ("rational", lambda t: 1 / (1 + t * t), 1.0, -0.5),
    ("arctangent", np.arctan, 2.0, 0.2),
    ("error function", scipy.special.erf, 0.5, 2 / math.sqrt(math.pi) * math.exp(-0.25)),
    ("huge", lambda t: 1e12 * np.cos(t), 1.0, -1e12 * math.sin(1.0)),
    ("tiny", lambda t: 1e-12 * np.cos(t), 1.0, -1e-12 * math.sin(1.0)),
    ("offset", lambda t: 1e6 + np.sin(t), 1.0, math.cos(1.0)),
]
ON_SMOOTH = pytest.mark.parametrize(
    ("function", "point", "slope"), [c[1:] for c in SMOOTH], ids=[c[0] for c in SMOOTH]
)


def exact_step(point, step):
    return ((point + step) - (point - step)) / 2


def settings(function, point, slope):
    """(step, noise level, length scale) as a check chooses them for a float64 loss."""
    scale = max(abs(point), 0.1)
    level = noise.roughness([function(point + 1e-9 * scale * j) for j in range(-3, 4)])
    level = max(level, noise.rounding_floor(function(point)))
    return (
        exact_step(point, step_sizes.first_step(slope, function(point), level, scale, THRESHOLD)),
        level,
        scale,
    )


def central_of(function, point, slope):
    step, level, scale = settings(function, point, slope)
    return differences.central(
        function(point), function(point + step), function(point - step), step, level, scale
    )


def sequence_of(function, point, slope):
    step, level, scale = settings(function, point, slope)
    return estimate_at(function, point, step_sizes.step_sequence(step, scale), level)


def estimate_at(function, point, steps, level):
    steps = [exact_step(point, s) for s in steps]
    plus, minus = ([function(point + sign * s) for s in steps] for sign in (1, -1))
    return differences.select_estimate(function(point), steps, plus, minus, level)


@ON_SMOOTH
def test_a_single_quotient_is_within_its_error_bar(function, point, slope):
    estimate = central_of(function, point, slope)
    assert abs(estimate.slope - slope) <= estimate.error
    assert estimate.error < 0.1 * abs(slope)
    assert (estimate.evaluations, estimate.is_kink) == (2, False)


@ON_SMOOTH
def test_a_single_quotient_meets_the_threshold(function, point, slope):
    estimate = central_of(function, point, slope)
    assert abs(estimate.slope - slope) <= THRESHOLD * (abs(slope) + abs(estimate.slope))


@ON_SMOOTH
def test_a_sequence_is_within_its_error_bar_and_sees_no_kink(function, point, slope):
    estimate = sequence_of(function, point, slope)
    assert abs(estimate.slope - slope) <= estimate.error
    assert estimate.error < 1e-5 * abs(slope)  # the offset of a million leaves no more digits
    assert not estimate.is_kink


@ON_SMOOTH
def test_the_one_sided_slopes_of_a_step_enclose_the_central_one(function, point, slope):
    estimate = central_of(function, point, slope)
    assert estimate.slope == pytest.approx((estimate.left + estimate.right) / 2, rel=1e-9)


@ON_SMOOTH
def test_the_one_sided_slopes_of_a_sequence_are_within_their_error_bars(function, point, slope):
    estimate = sequence_of(function, point, slope)
    assert abs(estimate.left - slope) <= estimate.left_error
    assert abs(estimate.right - slope) <= estimate.right_error
    assert estimate.do_slopes_meet
    assert estimate.interval == (estimate.slope - estimate.error, estimate.slope + estimate.error)


@ON_SMOOTH
def test_scipy_agrees_within_the_summed_error_bars(function, point, slope):
    second = scipy.differentiate.derivative(function, point)
    estimate = sequence_of(function, point, slope)
    assert second.success
    assert abs(estimate.slope - second.df) <= estimate.error + second.error


def test_a_sequence_is_more_precise_than_one_quotient_with_a_bad_step():
    steps = 0.1 * np.asarray(step_sizes.STEP_FACTORS)
    coarse = differences.central(1.0, math.exp(0.1), math.exp(-0.1), 0.1, 1e-16, 1.0)
    fine = estimate_at(np.exp, 0.0, steps, 1e-16)
    assert abs(fine.slope - 1) < 1e-5 * abs(coarse.slope - 1)
    assert fine.error < 1e-4 * coarse.error


INTEGERS = st.integers(-1000, 1000)
DYADIC = st.integers(1, 12).map(lambda k: 2.0**-k)


@given(INTEGERS, INTEGERS, INTEGERS, INTEGERS, DYADIC)
def test_a_quadratic_is_exact(a, b, c, point, step):
    # Integers and powers of two are not rounded by any operation, so equality is exact.
    def function(t):
        return (a * t + b) * t + c

    values = [function(t) for t in (point, point + step, point - step)]
    assert differences.central(*values, step, 0.0, 1.0).slope == 2 * a * point + b
    steps = step * np.array([1.0, 2.0, 4.0])
    estimate = estimate_at(function, point, steps, 0.0)
    assert (estimate.slope, estimate.error) == (2 * a * point + b, 0.0)
    assert estimate.do_slopes_meet


VALUES = st.floats(-1e6, 1e6)
STEPS = st.floats(1e-6, 1.0)
NOISES = st.floats(0.0, 1e-3)
LADDERS = st.lists(st.tuples(VALUES, VALUES), min_size=4, max_size=4)
RUNGS = np.array([1e-3, 1e-2, 1e-1, 1.0])


@given(VALUES, VALUES, VALUES, STEPS, NOISES)
def test_reversing_the_probe_flips_the_sign(base, plus, minus, step, level):
    one = differences.central(base, plus, minus, step, level, 1.0)
    other = differences.central(base, minus, plus, step, level, 1.0)
    assert (other.slope, other.left, other.right) == (-one.slope, -one.right, -one.left)
    assert (other.error, other.step_size) == (one.error, one.step_size)


@given(VALUES, LADDERS, NOISES)
def test_reversing_the_probe_flips_a_sequence(base, values, level):
    plus, minus = np.array(values).T
    one = differences.select_estimate(base, RUNGS, plus, minus, level)
    other = differences.select_estimate(base, RUNGS, minus, plus, level)
    assert (other.slope, other.left, other.right) == (-one.slope, -one.right, -one.left)
    assert (other.error, other.step_size, other.is_kink) == (one.error, one.step_size, one.is_kink)
    assert (other.left_error, other.right_error) == (one.right_error, one.left_error)


POWERS = st.integers(-60, 60).map(lambda k: 2.0**k)


@given(VALUES, VALUES, VALUES, STEPS, NOISES, POWERS)
def test_scaling_the_loss_scales_slope_and_error(base, plus, minus, step, level, factor):
    # Powers of two round nothing.
    one = differences.central(base, plus, minus, step, level, 1.0)
    other = differences.central(
        factor * base, factor * plus, factor * minus, step, factor * level, 1.0
    )
    assert (other.slope, other.error) == pytest.approx(
        (factor * one.slope, factor * one.error), rel=1e-12
    )


@given(VALUES, LADDERS, NOISES, POWERS)
def test_scaling_the_loss_scales_a_sequence(base, values, level, factor):
    plus, minus = np.array(values).T
    one = differences.select_estimate(base, RUNGS, plus, minus, level)
    other = differences.select_estimate(
        factor * base, RUNGS, factor * plus, factor * minus, factor * level
    )
    assert (other.slope, other.error) == pytest.approx(
        (factor * one.slope, factor * one.error), rel=1e-12
    )
    assert (other.step_size, other.is_kink) == (one.step_size, one.is_kink)


@given(VALUES, VALUES, VALUES, STEPS, NOISES, NOISES)
def test_more_noise_widens_the_error_bar(base, plus, minus, step, level, more):
    bars = [
        differences.central(base, plus, minus, step, n, 1.0).error for n in (level, level + more)
    ]
    assert bars[0] <= bars[1]


def test_the_rounding_error_is_four_deviations_of_a_quotient():
    rng = np.random.default_rng(0)
    quotients = np.diff(1e-3 * rng.standard_normal((200_000, 2)), axis=1) / (2 * 0.1)
    assert differences.rounding_error(1e-3, 0.1) == pytest.approx(4 * quotients.std(), rel=0.01)


KINKS = [
    ("absolute value", abs, 0.0, -1.0, 1.0),
    ("relu", lambda t: max(t, 0.0), 0.0, 0.0, 1.0),
    ("tie in a maximum", lambda t: max(2 * t, t * t + 0.5 * t), 0.0, 0.5, 2.0),
    ("leaky", lambda t: max(t, 0.01 * t) + math.sin(t), 0.0, 1.01, 2.0),
    ("hinge far from zero", lambda t: max(0.0, 3.0 - t), 3.0, -1.0, 0.0),
]


@pytest.mark.parametrize(
    ("function", "point", "left", "right"), [k[1:] for k in KINKS], ids=[k[0] for k in KINKS]
)
def test_at_a_kink_the_one_sided_slopes_do_not_meet(function, point, left, right):
    steps = 1e-5 * np.asarray(step_sizes.STEP_FACTORS)
    estimate = estimate_at(function, point, steps, 1e-16)
    assert estimate.is_kink
    assert (estimate.left, estimate.right) == pytest.approx((left, right), abs=1e-3)
    assert estimate.slope == pytest.approx((left + right) / 2, abs=1e-3)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("distance", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_smaller_steps_see_past_a_kink_inside_the_sequence(distance, side):
    def function(t):
        return max(t - 1.0, 0.0) + 0.3 * t

    steps = 1e-5 * np.asarray(step_sizes.STEP_FACTORS)
    estimate = estimate_at(function, 1.0 + side * distance, steps, 1e-16)
    slope = 1.3 if side > 0 else 0.3
    assert abs(estimate.slope - slope) <= estimate.error < 1e-5
    assert estimate.step_size < distance


def test_two_large_steps_that_agree_by_chance_are_compared_with_the_small_ones():
    steps = np.array([1e-3, 1e-2, 0.1, 1.0])
    slopes = np.array([1.0, 1.01, 2.0, 2.0])
    level = (
        0.02 * math.sqrt(2) * steps[0] / differences.DEVIATIONS
    )  # a rounding error of 0.02 at the smallest step
    estimate = differences.select_estimate(0.0, steps, steps * slopes, -steps * slopes, level)
    assert abs(estimate.slope - 1.0) <= estimate.error < 0.1


def test_a_small_step_lost_in_rounding_widens_no_error_bar():
    slopes, rounding = np.array([7.0, 1.0, 1.0, 1.0]), np.array([10.0, 1e-3, 1e-4, 1e-5])
    truncation = differences.truncation_errors(slopes, rounding, np.array([1, 2, 3, 3]))
    assert truncation.tolist() == [6.0, 0.0, 0.0, 0.0]


def slopes_of(left, right, steps=(1e-3, 1e-2, 1e-1), level=1e-16):
    """The estimate of a loss with these one-sided quotients at each step."""
    steps = np.asarray(steps)
    plus, minus = np.asarray(right) * steps, -np.asarray(left) * steps
    return differences.select_estimate(0.0, steps, plus, minus, level)


@pytest.mark.parametrize(
    ("right", "do_meet", "is_kink"),
    [
        ((1.0, 1.0, 1.0), False, True),
        ((0.01, 0.1, 1.0), True, False),  # proportional to the step: a smooth loss
        ((0.0, 0.0, 1.0), True, False),  # a kink between the steps
        ((0.0, 0.0, 0.0), True, False),
        ((0.9, 0.95, 1.0), False, True),
        ((0.7, 0.97, 1.0), False, True),  # a kink within the smallest step
        ((0.3, 0.93, 1.0), False, False),  # the same, too near the step to say
        ((1e-4, 1e-2, 1.0), True, False),
    ],
)
def test_slopes_that_differ_by_more_than_their_bars_are_a_kink(right, do_meet, is_kink):
    estimate = slopes_of((0.0, 0.0, 0.0), right)
    assert (estimate.do_slopes_meet, estimate.is_kink) == (do_meet, is_kink)


@pytest.mark.parametrize("distance", [0.0, 0.1, 0.3, 0.45, 0.5, 0.55, 0.6, 0.67, 0.8, 0.99])
@pytest.mark.parametrize("ratio", [2.0, 3.0, 10.0])
def test_the_slope_at_the_point_is_in_the_interval_wherever_the_kink_is(distance, ratio):
    """At whatever fraction of the smallest step: the hull and the bar leave no gap between them."""
    steps = 1e-3 * ratio ** np.arange(5)
    right = 1 - distance * steps[0] / steps
    estimate = slopes_of(np.zeros(5), right, steps, level=0.0)
    assert estimate.distance_to(0.0) <= 1e-12


def test_an_opening_below_the_noise_is_no_kink():
    # Its bars are eight deviations of a one-sided quotient on each side.
    assert slopes_of(np.zeros(3), np.ones(3), level=1e-5).is_kink
    assert slopes_of(np.zeros(3), np.ones(3), level=1e-2).do_slopes_meet


def test_a_step_is_compared_with_one_at_least_twice_as_large():
    """A step just above it shows too little of its truncation."""
    steps = np.array([1e-2, 1.01e-2, 1e-1])
    estimate = differences.select_estimate(0.0, steps, steps**3 + steps, -(steps**3) - steps, 0.0)
    assert estimate.slope == pytest.approx(1.0 + 1e-4, abs=3e-6)
    assert 1e-4 <= estimate.error == pytest.approx(1e-2, rel=0.02)


def test_steps_without_a_larger_one_have_no_error_bar():
    steps = np.array([1.0, 1.5, 1.9])
    estimate = differences.select_estimate(0.0, steps, steps, -steps, 0.0)
    assert math.isinf(estimate.error)
    assert estimate.do_slopes_meet


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("plus", "minus", "slope", "evaluations"),
    [
        ([NAN, NAN, NAN], [0.0, 0.0, 0.0], NAN, 0),
        ([0.1, INF, NAN], [-0.1, 0.0, 0.0], NAN, 2),
        ([0.1, 0.2, NAN], [-0.1, -0.2, -0.4], 1.0, 4),
        ([NAN, 0.2, 0.4], [-0.1, -0.2, -0.4], 1.0, 4),
        ([0.1, 0.2, 0.4], [-0.1, -0.2, -INF], 1.0, 4),
    ],
)
def test_losses_that_are_not_finite_are_left_out(plus, minus, slope, evaluations):
    estimate = differences.select_estimate(0.0, [0.1, 0.2, 0.4], plus, minus, 0.0)
    assert estimate.slope == pytest.approx(slope, nan_ok=True)
    assert estimate.evaluations == evaluations
    assert math.isinf(estimate.error) == math.isnan(slope)
