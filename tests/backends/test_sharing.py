"""Moving one parameter evaluates only what depends on its variable, and gives the same losses."""

import functools
import itertools
import queue

import keras
import numpy as np
import pytest
from keras import layers

import gradhooks
from gradhooks.backends import tensorflow
from gradhooks.backends.common import partition
from gradhooks.backends.common.partition import TracingCost
from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from gradhooks.numerics.probe import Probe
from tests import models
from tests.corpora import controls, judging, mutants

# Two graphs of the same sums may add in different orders.
FEW_ROUNDINGS = 8 * np.finfo(float).eps


def set_options(monkeypatch, name, **options):
    """Has the oracle call a member of the backend with other thresholds than the default ones."""
    original = getattr(tensorflow, name)
    monkeypatch.setattr(tensorflow, name, functools.partial(original, **options))


@pytest.fixture(autouse=True)
def partitioned(monkeypatch):
    """Partitions small graphs as large ones are."""
    set_options(monkeypatch, "LossProgram", tracing_cost=TracingCost(0.0, 0.0))


def make_oracle(model, x, y, sample_weight=None, **options):
    batch = batches.take_batch(x, y, sample_weight, None, 32)
    return oracle.ModelOracle(objective.Objective(model, True, None), batch, **options)


def one_of_each(layout):
    """A probe for one parameter of each variable, and pairs that move each both ways."""
    probes = [
        Probe(int(start + size // 2), np.ones(1))
        for start, size in zip(layout.offsets, layout.sizes, strict=False)
    ]
    return probes, [(k, offset) for k in range(len(probes)) for offset in (1e-3, -1e-3)]


def pools(o, seed=0):
    """A probe for a few parameters of each group, and one that spans all groups."""
    rng = np.random.default_rng(seed)
    bounds = o.layout.offsets[[*o.pooling_groups, len(o.layout)]]
    ranges = [*itertools.pairwise(bounds), (0, o.layout.size)]
    probes = []
    for first, last in ranges:
        count = min(8, last - first)
        positions = first + np.sort(rng.choice(last - first, count, replace=False))
        probes.append(Probe(int(positions[0]), rng.normal(size=count), 1.0, positions))
    return probes, [(k, offset) for k in range(len(probes)) for offset in (1e-3, -1e-3)]


def deep(width=8, depth=12):
    hidden = [layers.Dense(width, "tanh", name=f"hidden_{k}") for k in range(depth)]
    return models.compiled(keras.Sequential([keras.Input((width,)), *hidden, layers.Dense(1)]))


def deep_with_data():
    return deep(), *models.data((8,), (1,), 0)


SMALL = [case for case in [*controls.CASES, *mutants.CASES] if not case.large and not case.needs]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=c.name, marks=[pytest.mark.sweep] if k % 6 else [])
        for k, c in enumerate(SMALL[::12])
    ],
)
def test_shared_and_unshared_evaluations_are_the_same(case):
    model, x, y, *sample_weight = case.build(0)
    if not model.built:
        model(x)
    shared, unshared = (
        make_oracle(model, x, y, *sample_weight, is_sharing=flag) for flag in (True, False)
    )
    for probes, pairs in (one_of_each(shared.layout), pools(shared)):
        found, expected = (o.losses(o.point(), probes, pairs) for o in (shared, unshared))
        atol = FEW_ROUNDINGS * np.nanmax(np.abs(expected))
        np.testing.assert_allclose(found, expected, rtol=FEW_ROUNDINGS, atol=atol)


@pytest.mark.parametrize(
    "build", [models.mlp, models.noisy, deep_with_data], ids=["dense", "with a penalty", "deep"]
)
def test_a_few_parameters_are_moved_at_once(build):
    o = make_oracle(*build())
    point = o.point()
    nowhere = [Probe(0, np.zeros(1))]
    (*grouped, everywhere), _ = pools(o)
    single, _ = one_of_each(o.layout)
    # Alone, together with single parameters, and across the groups, where no loop serves.
    for probes in (grouped, [*single[:2], *grouped], [*grouped, everywhere]):
        found = o.losses(point, probes, [(k, 1e-3) for k in range(len(probes))])
        for probe, losses in zip(probes, found, strict=True):
            moved = probe.move(point, 1e-3)
            (expected,) = o.losses(moved, nowhere, [(0, 0.0)])
            np.testing.assert_allclose(losses, expected, rtol=FEW_ROUNDINGS)
            if len(probe.weights) > 1:
                assert losses[0] != o.losses(point, nowhere, [(0, 0.0)])[0, 0]


@pytest.mark.parametrize("build", [models.mlp, models.noisy], ids=["dense", "with a penalty"])
def test_a_light_graph_gives_the_same_losses_along_a_line(build, monkeypatch):
    model, x, y = build()
    of_its_own = make_oracle(model, x, y)
    assert not of_its_own._compilation.losses.is_light
    set_options(monkeypatch, "LossProgram", tracing_cost=TracingCost(np.inf, 0.0))
    light = make_oracle(model, x, y)
    assert light._compilation.losses.is_light
    rng = np.random.default_rng(0)
    probes = [Probe(0, rng.normal(size=light.layout.size)), Probe(3, rng.normal(size=20))]
    pairs = [(1, 1e-3), (0, -1e-4), (0, 0.0), (1, -1e-3)]
    found, expected = (o.losses(o.point(), probes, pairs) for o in (light, of_its_own))
    np.testing.assert_allclose(found, expected, rtol=FEW_ROUNDINGS)
    assert len(np.unique(found[:, 0])) == len(pairs)


@pytest.mark.parametrize(
    "build", [models.mlp, models.noisy, deep_with_data], ids=["dense", "with a penalty", "deep"]
)
def test_a_heavy_model_is_held_once_and_gives_the_same_losses(build, monkeypatch):
    model, x, y = build()
    expected_of = make_oracle(model, x, y)
    set_options(monkeypatch, "LossProgram", heavy_above=0)
    set_options(monkeypatch, "GradientProgram", trim_above=0)
    set_options(monkeypatch, "trim_memory", trim_above=0)
    heavy = make_oracle(model, x, y)
    assert heavy._compilation.losses.is_heavy
    assert not expected_of._compilation.losses.is_heavy
    probes, pairs = one_of_each(heavy.layout)
    along = [Probe(0, np.random.default_rng(0).normal(size=heavy.layout.size))]
    few = pools(heavy)[0][:1]
    for asking in ((probes, pairs), (few, [(0, 1e-3)]), (along, [(0, 1e-3), (0, -1e-3)])):
        found, expected = (o.losses(o.point(), *asking) for o in (heavy, expected_of))
        np.testing.assert_array_equal(found, expected)
    found, expected = (o.gradients(o.point()).terms["total"] for o in (heavy, expected_of))
    np.testing.assert_array_equal(found, expected)


def test_losses_are_in_the_order_of_the_pairs():
    model, x, y = models.mlp()
    o = make_oracle(model, x, y)
    probes, pairs = one_of_each(o.layout)
    order = np.random.default_rng(0).permutation(len(pairs))
    np.testing.assert_array_equal(
        o.losses(o.point(), probes, [pairs[k] for k in order]),
        o.losses(o.point(), probes, pairs)[order],
    )


def test_a_deep_network_is_partitioned_and_the_groups_shrink_upwards():
    o = make_oracle(deep(), *models.data((8,), (1,), 0))
    forward, bounds = o._compilation.gradients.forward, o._compilation.losses.bounds
    assert bounds[0] == 0
    assert bounds[-1] == len(o.layout)
    sizes = [len(forward.downstream(a, b).nodes) for a, b in itertools.pairwise(bounds)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


class Chain:
    """Variables in a chain; moving one computes again everything downstream."""

    def __init__(self, each):
        self.each = np.array(each)
        self.roots = [f"v{k}" for k in range(len(each))]

    def model_work(self, first):
        return np.array(
            [self.each[first:].sum() if b > first else 0.0 for b in range(len(self.each) + 1)]
        )


def test_partition_takes_the_least_work_among_all_ways_to_cut():
    chain = Chain([1.0, 1.0, 1.0, 50.0, 1.0, 1.0])

    def cost(bounds):
        return sum((b - a) * chain.model_work(a)[b] for a, b in itertools.pairwise(bounds))

    best = partition.partition(chain, TracingCost(0.0, 0.0))
    others = [(0, *sorted(cut), 6) for cut in _subsets(range(1, 6), partition.MOST_GROUPS - 1)]
    assert cost(best) == min(map(cost, others))
    assert 4 in best  # just downstream of the expensive one


@pytest.mark.parametrize("count", [10, 200])
def test_loops_must_pay_for_their_tracing(count):
    """Four groups of equal work save three eighths of it; every variable slows their tracing."""
    needed = TracingCost().of(count) / (3 / 8)
    too_little, enough = (
        partition.partition(Chain(np.full(count, share * needed / count))) for share in (0.8, 1.25)
    )
    assert too_little == (0, count)
    assert len(enough) == 5


def _subsets(numbers, most):
    found = [()]
    for number in numbers:
        found += [(*f, number) for f in found if len(f) < most]
    return found


def test_what_cannot_be_shared_is_not_partitioned():
    model = models.compiled(keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)]))
    assert make_oracle(model, *models.data((4,), (1,), 0))._compilation.losses.bounds == (0, 1)


def test_one_trace_serves_losses_and_gradients():
    calls = queue.SimpleQueue()  # a check would put back a list

    class CountsCalls(layers.Layer):
        def call(self, x):
            calls.put(None)
            return x

    model, x, y = models.mlp(middle=[CountsCalls()])
    before = calls.qsize()
    o = make_oracle(model, x, y)
    probes, pairs = one_of_each(o.layout)
    for _ in range(3):
        o.losses(o.point(), probes, pairs)
        o.losses(o.point(), [Probe(0, np.ones(o.layout.size))], [(0, 1e-6)])
        o.gradients(o.point())
    assert calls.qsize() - before == o.traces == 1


@pytest.mark.sweep
@pytest.mark.parametrize(
    "case", [c for c in [*mutants.CASES, *controls.CASES] if not c.large], ids=str
)
def test_verdicts_do_not_depend_on_sharing(case, monkeypatch):
    shared = judging.check_case(case, 0)
    monkeypatch.setattr(
        oracle, "ModelOracle", functools.partial(oracle.ModelOracle, is_sharing=False)
    )
    unshared = judging.check_case(case, 0)
    assert shared.verdict is unshared.verdict
    assert [d.path for d in shared.diagnoses] == [d.path for d in unshared.diagnoses]


def test_verdicts_of_a_defect_and_of_a_healthy_network_do_not_depend_on_sharing(monkeypatch):
    cases = {c.name: c for c in [*mutants.CASES, *controls.CASES]}
    for name in ("kernel_half", "conv1d"):
        with monkeypatch.context() as patch:
            test_verdicts_do_not_depend_on_sharing(cases[name], patch)
    assert gradhooks.Verdict.FAIL is judging.check_case(cases["kernel_half"], 0).verdict
