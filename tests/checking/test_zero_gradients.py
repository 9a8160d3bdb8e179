"""Variables without any gradient: blocked, asleep, or of no influence."""

import numpy as np
import pytest

from gradhooks.checking import baseline, zero_gradients
from gradhooks.numerics import sampling
from tests.fakes import FunctionOracle

SIZE = 6
POINT = np.random.default_rng(0).uniform(0.5, 1.5, 2 * SIZE)


def move_first_variable(function, gradient, seed=0):
    """The `ZeroGradient` of `v0`, whose loss and gradient are given; that of `v1` is right."""

    def loss(p):
        return function(p[:SIZE]) + float(p[SIZE:] @ p[SIZE:])

    def whole(p):
        return np.concatenate([gradient(p[:SIZE]), 2 * p[SIZE:]])

    oracle = FunctionOracle(loss, whole, POINT, ((2, 3), (SIZE,)))
    gradients = oracle.gradients(POINT).terms
    scales = sampling.variable_scales(oracle.layout, POINT)
    screening = sampling.screening_probe(
        oracle.layout, scales, gradients["total"], np.random.default_rng(seed)
    )
    at, _ = baseline.estimate_baseline(oracle, POINT, gradients, screening, baseline.PROMOTED)
    zero = zero_gradients.find_zero_gradients(oracle.layout, gradients["total"])
    assert zero == [0]
    found = zero_gradients.move_variables(
        oracle.layout, oracle, at, scales, zero, np.random.default_rng(seed)
    )
    assert [f.variable for f in found] == [0]
    return found[0]


def relus_that_are_off(distance):
    """ReLUs that are off here and on at a distance."""
    kinks = POINT[:SIZE] + distance
    return (lambda p: float(np.maximum(p - kinks, 0).sum())), lambda p: (p > kinks).astype(float)


WEIGHTS = np.array([1.0, 0.7, 2.1, 0.3, 1.9, 0.2])
STEPS = [
    ("rounding", lambda p: float(np.round(3 * p).sum())),
    ("signs", lambda p: float(WEIGHTS @ np.sign(p - POINT[:SIZE] - np.linspace(-0.9, 0.9, SIZE)))),
    ("stop_gradient", lambda p: float(p @ p)),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("function", [s[1] for s in STEPS], ids=[s[0] for s in STEPS])
def test_a_loss_that_moves_without_ever_a_gradient_is_blocked(function, seed):
    found = move_first_variable(function, np.zeros_like, seed)
    assert found.is_blocked
    assert found.change > 0.1
    assert found.distance != 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("distance", [0.1, 0.6, 0.95, 1.1, 1.5, 1.9, 5.0])
def test_a_variable_with_a_gradient_at_some_distance_is_not_blocked(distance, seed):
    assert not move_first_variable(*relus_that_are_off(distance), seed).is_blocked


def test_a_single_jump_is_no_staircase():
    jump = POINT[:SIZE].sum() + 0.01
    assert not move_first_variable(lambda p: float(p.sum() > jump), np.zeros_like).is_blocked


def test_a_loss_that_does_not_depend_on_the_variable_is_unchanged():
    found = move_first_variable(lambda p: 0.0, np.zeros_like)
    assert (found.is_blocked, found.change) == (False, 0.0)


@pytest.mark.parametrize(
    ("gradient", "zero"),
    [
        ([0, 0, 0, 0], [0, 2]),
        ([0, 1, 0, 0], [2]),
        ([0, 0, 0, np.nan], [0]),
        ([1, 0, 0, 1e-300], []),
    ],
)
def test_only_exact_zeros_count_as_no_gradient(gradient, zero):
    layout = layout_of(((3,), (0,), (1,)))
    assert zero_gradients.find_zero_gradients(layout, np.array(gradient, dtype=float)) == zero


def layout_of(shapes):
    return FunctionOracle(None, None, np.zeros(4), shapes).layout


def test_without_zero_gradients_nothing_is_evaluated():
    oracle = FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, POINT)
    assert zero_gradients.move_variables(oracle.layout, oracle, None, None, [], None) == []
    assert oracle.evaluations == oracle.gradient_evaluations == 0
