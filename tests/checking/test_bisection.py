"""Bisection finds one wrong entry among thousands in logarithmically many evaluations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradhooks.checking import baseline, bisection, measure, step_control
from gradhooks.numerics import sampling
from tests.fakes import FunctionOracle

THRESHOLD = 1e-6
# Ten variables of every rank, 4096 entries in all, none of them a power of two in rows.
SHAPES = ((48, 48), (48,), (6, 5, 7, 3), (), (22, 29), (29,), (1,), (2, 3, 5), (100,), (315,))
SIZE = 4096


def test_the_table_is_what_it_says():
    assert (len(SHAPES), sum(math.prod(s) for s in SHAPES)) == (10, SIZE)


def sines(wrong, factor, penalty=None, shapes=SHAPES):
    """A sum of sines whose gradient is wrong in one entry by a factor; no slope is zero."""
    size = sum(math.prod(s) for s in shapes)
    rng = np.random.default_rng(5)
    point, weights = rng.uniform(0.2, 1.0, size), rng.uniform(0.5, 2.0, size)

    def gradient(p):
        slopes = weights * np.cos(p)
        slopes[wrong] *= factor
        return slopes

    return FunctionOracle(lambda p: float(weights @ np.sin(p)), gradient, point, shapes, penalty)


def measure_failure(oracle, seed=0):
    """(evaluation point, measurement): the screening probe, which fails."""
    point = oracle.point()
    gradients = oracle.gradients(point).terms
    scales = sampling.variable_scales(oracle.layout, point)
    probe = sampling.screening_probe(
        oracle.layout, scales, gradients["total"], np.random.default_rng(seed)
    )
    at, _ = baseline.estimate_baseline(oracle, point, gradients, probe, baseline.PROMOTED)
    measured = step_control.first_estimates(oracle, at, [probe], THRESHOLD)
    measured = measure.refine(oracle, at, measured, THRESHOLD)[0]
    assert measured.has_failed
    return at, measured


def run_bisection(oracle, seed=0):
    """(position, trail, evaluations) of a bisection."""
    at, measured = measure_failure(oracle, seed)
    before = oracle.evaluations
    position, trail = bisection.bisect(oracle.layout, oracle, at, measured, THRESHOLD)
    return position, trail, oracle.evaluations - before


def rounds(oracle):
    """Largest number of halvings: between variables, between rows, in a row; one more per axis."""
    ranks = max(len(s) for s in oracle.layout.shapes)
    return (
        math.ceil(math.log2(oracle.layout.size)) + math.ceil(math.log2(len(oracle.layout))) + ranks
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, SIZE - 1), st.sampled_from([2.0, 0.5, -1.0, 0.0, 1.5]), st.integers(0, 3))
def test_a_wrong_entry_is_found_in_logarithmically_many_evaluations(wrong, factor, seed):
    oracle = sines(wrong, factor)
    position, trail, evaluations = run_bisection(oracle, seed)
    assert position == wrong
    assert evaluations == 2 * (len(trail) - 1)
    assert evaluations <= 2 * rounds(oracle)
    assert evaluations <= 2 * math.ceil(math.log2(SIZE)) + 16


def test_the_trail_has_a_line_for_each_halving():
    oracle = sines(48 * 30 + 17, 2.0)
    _, trail, _ = run_bisection(oracle)
    assert trail[0].startswith("10 variables from v0 to v9: gap ")
    assert [t.split(":")[0] for t in trail[1:6]] == [
        "5 variables from v0 to v4",
        "3 variables from v0 to v2",
        "2 variables from v0 to v1",
        "v0",
        "1152 parameters from v0[24, 0]",
    ]
    assert trail[-1].startswith("v0[30, 17]: gap ")
    gaps = [float(t.split("gap ")[1]) for t in trail]
    assert gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-3)


@pytest.mark.parametrize(
    ("shapes", "wrong", "label"),
    [
        (((4096,),), 1234, "v0[1234]"),
        (((0, 3), (64, 64), (0,)), 4095, "v1[63, 63]"),
        (((), (), ()), 1, "v1"),
        (((4097, 1),), 4096, "v0[4096, 0]"),
        (((1, 4097),), 0, "v0[0, 0]"),
    ],
)
def test_odd_layouts_are_searched_too(shapes, wrong, label):
    position, trail, _ = run_bisection(sines(wrong, 3.0, shapes=shapes))
    assert position == wrong
    assert trail[-1].startswith(f"{label}: gap ")


def test_of_two_wrong_entries_of_a_variable_the_larger_one_is_found():
    rng = np.random.default_rng(0)
    point = rng.uniform(0.5, 1.0, SIZE)

    def gradient(p):
        slopes = 2 * p
        slopes[[3800, 4000]] += [0.01, 5.0]
        return slopes

    position, _, _ = run_bisection(FunctionOracle(lambda p: float(p @ p), gradient, point, SHAPES))
    assert position == 4000


def test_of_two_wrong_variables_the_later_one_is_searched_however_small_its_gap():
    # An error in a backward pass reaches all variables before it, often enlarged.
    rng = np.random.default_rng(0)
    point = rng.uniform(0.5, 1.0, SIZE)

    def gradient(p):
        slopes = 2 * p
        slopes[[100, 4000]] += [50.0, 0.1]
        return slopes

    position, _, _ = run_bisection(FunctionOracle(lambda p: float(p @ p), gradient, point, SHAPES))
    assert position == 4000


def test_a_penalty_that_is_wrong_in_one_entry_is_found_by_its_own_term():
    def penalty_gradient(p):
        slopes = 2e-9 * p
        slopes[777] *= 1.5
        return slopes

    # Too small to show in the total.
    oracle = sines(0, 1.0, (lambda p: 1e-9 * float(p @ p), penalty_gradient))
    _, measured = measure_failure(oracle)
    assert [v.name for v, _ in measured.judgements] == ["PASS", "PASS", "FAIL"]
    position, _, _ = run_bisection(oracle)
    assert position == 777
