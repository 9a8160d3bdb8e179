"""Step sizes: the first one, smaller ones of a given precision, and sequences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics import step_sizes

THRESHOLD = 1e-6


STEPS = st.floats(1e-6, 1.0)


NOISES = st.floats(0.0, 1e-3)


# (slope, loss, noise level, length scale, threshold)
@pytest.mark.parametrize(
    "arguments",
    [
        (1.0, 1.0, 1e-16, 1.0, 1e-6),
        (-1.0, 1.0, 1e-16, 1.0, 1e-6),
        (1e-9, 1.0, 1e-16, 0.1, 1e-6),
        (0.0, 1.0, 1e-16, 1.0, 1e-6),
        (math.nan, 1.0, 1e-16, 1.0, 1e-6),
        (math.inf, 1.0, 1e-16, 1.0, 1e-6),
        (1.0, 0.0, 0.0, 1.0, 1e-6),
        (1.0, 0.0, 1e-9, 1.0, 1e-6),
        (1e30, 1e-30, 1e-46, 1e-8, 1e-6),
        (0.01, 2.0, 1e-7, 0.3, 1e-2),
    ],
)
def test_a_first_step_is_a_sensible_share_of_the_scale(arguments):
    step = step_sizes.first_step(*arguments)
    scale = arguments[3]
    assert 1e-7 * scale < step <= 0.3 * scale


SLOPES = st.floats(1e-30, 1e30)


@given(SLOPES, SLOPES, st.floats(1e-18, 1e-3), st.floats(1e-6, 1e6))
def test_a_steeper_slope_never_asks_for_a_larger_step(one, other, level, scale):
    flat, steep = sorted((one, other))
    steps = [step_sizes.first_step(s, 1.0, level, scale, THRESHOLD) for s in (flat, steep, -steep)]
    assert steps[0] >= steps[1] == steps[2]


@given(st.floats(1e-3, 1e3), st.floats(1e-17, 1e-15), st.floats(0.1, 10))
def test_the_noise_of_the_first_step_is_a_tenth_of_the_threshold_within_its_limits(
    slope, level, scale
):
    step = step_sizes.first_step(slope, 1.0, level, scale, THRESHOLD)
    highest = step_sizes.first_step(0.0, 1.0, level, scale, THRESHOLD)
    deviation = level / (math.sqrt(2) * step)
    assert step == highest or deviation <= THRESHOLD * slope / 10


@given(STEPS, st.floats(0.01, 10))
def test_a_sequence_ascends_and_stays_within_the_scale(step, scale):
    for factors in (step_sizes.STEP_FACTORS, step_sizes.FINE_STEP_FACTORS):
        steps = step_sizes.step_sequence(step, scale, factors)
        assert (np.diff(steps) > 0).all()
        assert steps.max() <= max(0.3 * scale, step)
        assert len(steps) >= 4


def test_the_two_sequences_share_no_step():
    assert not set(step_sizes.STEP_FACTORS) & set(step_sizes.FINE_STEP_FACTORS)


@pytest.mark.parametrize("precision", [10.0, 1.0, 0.01])
def test_step_for_precision_has_the_precision_asked_for(precision):
    step = step_sizes.step_for_precision(-3.0, 1e-16, 1e-7, precision)
    assert step_sizes.step_precision(-3.0, step, 1e-16, 1e-7) == pytest.approx(precision)
