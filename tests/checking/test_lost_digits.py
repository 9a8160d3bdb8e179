"""Steps of many units look like lost digits along a direction, but not in single parameters."""

import numpy as np
import pytest

from gradhooks.checking import baseline
from gradhooks.reports.circumstances import Precision
from tests.fakes import FunctionOracle, estimate_baseline

UNITS = 600


def oracle(value, has_steps):
    """A loss of many parameters, with the gradient of their mean."""
    point = np.random.default_rng(3).uniform(0.2, 1.0, UNITS)
    made = FunctionOracle(lambda p: value(p), lambda p: np.full(UNITS, 1 / UNITS), point)
    made.precision = Precision("float64", step_operations=("Round",) if has_steps else ())
    return made


def rounded(levels):
    """A mean of rounded units; forty shifts of each put their steps close together."""
    shifts = np.random.default_rng(4).uniform(0, 1, (40, UNITS))
    return lambda p: float(np.mean(np.round(p * levels + shifts) / levels))


def with_offset(offset):
    """A mean that is added to a huge number, which leaves few of its digits."""
    return lambda p: float((offset + np.mean(p)) - offset)


def level(value, has_steps):
    made = oracle(value, has_steps)
    gradients = made.gradients(made.point()).terms
    _, probe, _ = estimate_baseline(made)
    at, _ = baseline.estimate_baseline(
        made, made.point(), gradients, probe, baseline.PROMOTED, has_steps=has_steps
    )
    return at.noise[0], at.has_dense_kinks


@pytest.mark.parametrize("levels", [15, 127])
def test_steps_of_a_known_grid_are_no_noise(levels):
    noise, has_kinks = level(rounded(levels), has_steps=True)
    assert noise < 1e-14
    assert has_kinks


@pytest.mark.parametrize("offset", [1e6, 1e7, 1e9])
def test_digits_lost_to_a_huge_number_are_noise(offset):
    noise, _ = level(with_offset(offset), has_steps=False)
    assert noise > 0.05 * np.spacing(offset)
