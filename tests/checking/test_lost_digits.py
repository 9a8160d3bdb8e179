"""Steps of many units look like lost digits along a direction; single parameters tell them apart."""

import numpy as np
import pytest

from gradhooks.checking import baseline
from gradhooks.reports.records import Precision
from tests.fakes import FunctionOracle, surveyed

UNITS = 600


def oracle(value, has_steps):
    """A mean of what is made of each parameter, with the gradient of the identity."""
    point = np.random.default_rng(3).uniform(0.2, 1.0, UNITS)
    made = FunctionOracle(lambda p: value(p), lambda p: np.full(UNITS, 1 / UNITS), point)
    made.precision = Precision("float64", step_operations=("Round",) if has_steps else ())
    return made


def rounded(levels):
    """Each unit is rounded; thousands of inner examples put the steps close together."""
    shifts = np.random.default_rng(4).uniform(0, 1, (40, UNITS))
    return lambda p: float(np.mean(np.round(p * levels + shifts) / levels))


def with_offset(offset):
    """The sum goes through a huge number, which leaves few digits of it."""
    return lambda p: float((offset + np.mean(p)) - offset)


def level(value, has_steps):
    made = oracle(value, has_steps)
    gradients = made.gradients(made.point()).terms
    _, probe, _ = surveyed(made)
    place, _ = baseline.estimate_baseline(
        made, made.point(), gradients, probe, baseline.PROMOTED, has_steps=has_steps
    )
    return place.noise[0], place.has_dense_kinks


@pytest.mark.parametrize("levels", [15, 127])
def test_steps_of_a_known_grid_are_no_noise(levels):
    noise, is_kinky = level(rounded(levels), has_steps=True)
    assert noise < 1e-14
    assert is_kinky


@pytest.mark.parametrize("offset", [1e6, 1e7, 1e9])
def test_digits_lost_to_a_huge_number_are_noise(offset):
    noise, _ = level(with_offset(offset), has_steps=False)
    assert noise > 0.05 * np.spacing(offset)
