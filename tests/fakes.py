"""Oracles of functions with known derivatives, and their baseline."""

import numpy as np

from gradhooks.checking import baseline
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.numerics import sampling


def quadratic(size=12, **options):
    """The oracle of a sum of squares."""
    point = np.random.default_rng(1).uniform(0.5, 1.5, size)
    return FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, point, **options)


def estimate_baseline(oracle, spacing=baseline.PROMOTED, may_lose_digits=False):
    """(evaluation point, screening probe, stencils), as a check makes them."""
    point = oracle.point()
    gradients = oracle.gradients(point).terms
    scales = sampling.variable_scales(oracle.layout, point)
    probe = sampling.screening_probe(
        oracle.layout, scales, gradients["total"], np.random.default_rng(0)
    )
    at, stencils = baseline.estimate_baseline(
        oracle, point, gradients, probe, spacing, may_lose_digits
    )
    return at, probe, stencils


def dense_kinks(size=12, bend=1e-2):
    """The oracle of a sum of squares with thousands of kinks around each parameter.

    None of them lies within 1e-7 of the parameter.

    Args:
        size: Number of parameters.
        bend: By how much a kink changes the slope, as a standard deviation.
    """
    rng = np.random.default_rng(3)
    point = rng.uniform(0.5, 1.5, size)
    where = point[:, None] + rng.choice([-1, 1], (size, 2000)) * rng.uniform(
        1e-7, 5e-4, (size, 2000)
    )
    bends = bend * rng.normal(size=(size, 2000))

    def loss(p):
        return float(p @ p + np.sum(bends * np.abs(p[:, None] - where)))

    return FunctionOracle(
        loss, lambda p: 2 * p + np.sum(bends * np.sign(p[:, None] - where), axis=1), point
    )


def steep(size=12, rate=1e7):
    """The oracle of a mean of sines, whose derivatives hold over a fraction of `1 / rate` only."""
    rng = np.random.default_rng(2)
    rates, phases, point = (
        rate * rng.uniform(0.5, 2.0, size),
        rng.uniform(0, 6, size),
        rng.normal(size=size),
    )

    def loss(p):
        return float(np.mean(np.sin(rates * (p - point) + phases)))

    return FunctionOracle(
        loss, lambda p: rates * np.cos(rates * (p - point) + phases) / size, point
    )
