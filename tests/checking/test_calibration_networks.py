"""Over twenty networks: how often the true error of a derivative lies within the error bar.

The truth is the analytic gradient in float64 of models whose gradients pass the
other tests, since a complex step cannot pass through a Keras model. For a
partially native model it is the gradient of that model.
"""

import collections

import keras
import numpy as np
import pytest

from gradhooks.checking import baseline, measure, step_control
from gradhooks.checking.settings import THRESHOLDS
from gradhooks.model import batch, objective, oracle
from gradhooks.numerics import sampling
from gradhooks.numerics.coordinates import draw_coordinates
from gradhooks.reports.reasons import Reason
from tests import models
from tests.checking.test_calibration import SHARE
from tests.corpora import controls

pytestmark = pytest.mark.sweep

PARTIAL = ("pooling_in_three_dimensions", "local_response_normalization", "fixed_float32_constant")
NAMES = (
    "two_block_transformer",
    "variational_autoencoder",
    "l2",
    "float64_mlp",
    "loss_circle",
    "loss_dice",
    "saturated_sigmoids",
    "bias_before_normalization",
    "relu_network",
    "masked_lstm",
    "complex64_mixing",
    "conv2d_grouped_strided",
    *PARTIAL,
)
PROBES = 12


def networks():
    """Yields (name, model, x, y, sample weight or None) of 25 networks."""
    for name, build in models.HEALTHY.items():
        keras.utils.clear_session(free_memory=False)
        yield (name, *build(0), None)
    cases = {case.name: case for case in controls.CASES}
    for name in NAMES:
        keras.utils.clear_session(free_memory=False)
        model, x, y, *weights = cases[name].build(0)
        yield name, model, x, y, weights[0] if weights else None


def errors(asked, truth, seed=0):
    """Yields (quantity, |numeric - true|, error bar) of parameters and, natively, of variables.

    A check reports the single quotient if it is accepted, else the estimate of the sequence.
    """
    point, layout = asked.point(), asked.layout
    gradients = asked.gradients(point).terms
    level = asked.precision.level
    threshold = THRESHOLDS[level]
    spacing = baseline.NATIVE if level == "model" else baseline.PROMOTED
    scales, rng = sampling.variable_scales(layout, point), np.random.default_rng([seed, 0, 9])
    screening = sampling.screening_probe(layout, scales, gradients["total"], rng)
    may_lose_digits = bool(asked.precision.narrow_operations or asked.precision.native_layers)
    at, _ = baseline.estimate_baseline(asked, point, gradients, screening, spacing, may_lose_digits)
    probes = [
        sampling.coordinate_probe(p, scales[layout.variable_of(p)])
        for p in draw_coordinates(layout, PROBES, seed, 0)
    ]
    if spacing.is_native:
        probes += [
            sampling.variable_probe(layout, v, scales[v], gradients["total"], rng, aligned)
            for v in range(len(layout))
            if layout.sizes[v] > 1
            for aligned in (True, False)
        ]
    first = step_control.first_estimates(asked, at, probes, threshold)
    refined = measure.refine(asked, at, first, threshold)
    reported = [one if one.is_accepted else best for one, best in zip(first, refined, strict=True)]
    for quantity, measured in (
        ("central", first),
        ("from_ladder", refined),
        ("reported", reported),
    ):
        for m in measured:
            estimate = m.estimates[0]
            if not estimate.is_kink and m.judgements[0][1] is not Reason.KINK:
                yield quantity, abs(estimate.slope - m.probe.slope_of(truth)), estimate.error


@pytest.fixture(scope="module")
def inside():
    """Maps (level, quantity) to, per network, whether each true error lies within its bar."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, model, x, y, weights in networks():
        fixed = batch.take_batch(x, y, weights, None, 32)
        best = oracle.ModelOracle(objective.Objective(model), fixed)
        truth = best.gradients(best.point()).terms["total"]
        asked = (
            [best]
            if name in PARTIAL
            else [best, oracle.ModelOracle(objective.Objective(model), fixed, "model")]
        )
        for each in asked:
            for quantity, error, bar in errors(each, truth):
                found[each.precision.level, quantity][name].append(error <= bar)
    return found


def test_there_are_enough_networks(inside):
    assert len(inside["float64", "central"]) >= 20
    assert len(inside["model", "central"]) >= 20
    assert len(inside["partial", "central"]) == len(PARTIAL)


@pytest.mark.parametrize("quantity", ["reported", "from_ladder"])
@pytest.mark.parametrize("level", ["float64", "partial", "model"])
def test_the_true_error_is_within_the_error_bar(inside, level, quantity):
    by_network = inside[level, quantity]
    every = [one for network in by_network.values() for one in network]
    worst = sorted((float(np.mean(ones)), name) for name, ones in by_network.items())[:4]
    alone = [one for network in inside[level, "central"].values() for one in network]
    print(
        f"{level}, single quotients whether reported or not: {np.mean(alone):.4f} of {len(alone)}"
    )
    print(
        f"{level}, {quantity}: {np.mean(every):.4f} of {len(every)} within the error bar "
        f"(weakest: {worst})"
    )
    assert np.mean(every) >= SHARE, worst
