"""What a check may cost, as ratios within one run: `python -m pytest -m benchmarks -n 0`."""

import time

import keras
import numpy as np
import pytest

import gradhooks
from tools.peers import clock, comparison, measuring, networks

pytestmark = pytest.mark.benchmarks

SMALL = [name for name in networks.NETWORKS if name != "resnet50"]


@pytest.mark.parametrize("name", SMALL)
def test_a_steady_check(benchmark, name):
    model, x, y = networks.NETWORKS[name]()
    check = measuring.check(measuring.asked(model, x, y))
    benchmark(check)


@pytest.mark.parametrize("name", SMALL)
def test_healthy_coordinates(benchmark, name):
    evaluate, _ = measuring.healthy_coordinates(measuring.asked(*networks.NETWORKS[name]()))
    benchmark(evaluate)


@pytest.fixture(scope="module")
def rows():
    """All networks, each measured in a process of its own."""
    return [comparison.measured_apart(name) for name in networks.NETWORKS]


def test_a_healthy_coordinate_costs_a_forward_pass_at_most(rows):
    costs = [row["per coordinate"] for row in rows]
    assert comparison.geometric_mean(costs) <= 1.0, costs
    assert max(costs) <= 2.2, costs


def test_it_costs_less_than_tensorflows_own(rows):
    ratios = [row["tools"]["tf.test.compute_gradient"] / row["per coordinate"] for row in rows]
    assert comparison.geometric_mean(ratios) >= 2.0, ratios
    assert min(ratios) >= 1.0, ratios


def test_the_first_verdict_does_not_take_long(rows):
    late = {
        row["network"]: (row["first verdict, seconds"], row["first step, seconds"])
        for row in rows
        if row["first verdict, seconds"] > 3 * row["first step, seconds"] + 2
    }
    assert not late


@pytest.mark.parametrize(("name", "steps"), [("resnet50", 40), ("digits", 20)])
def test_a_check_takes_the_time_of_a_few_steps(rows, name, steps):
    (row,) = (row for row in rows if row["network"] == name)
    assert row["check"] < steps


def test_memory_stays_within_bounds(rows):
    """Twice the float64 parameters, the float64 activations of one pass forth and back, and 200
    MB.
    """
    for row in rows:
        assert row["peak MB"] <= 2 * row["parameters MB"] + row["activations MB"] + 200, row


def test_cost_grows_with_the_forward_pass():
    """Where a pass is work.

    Of a small one, the call from Python is a good part, and sharing saves none of it.
    """
    passes = []
    for width in (512, 1024, 2048, 4096):
        model, x, y = measuring.wide(lambda width=width: networks.chain(3, width, rows=128))
        evaluate, count = measuring.healthy_coordinates(measuring.asked(model, x, y))
        passes.append(clock.ratio(evaluate, measuring.forward_pass(model, x, y)) / count)
    middle = np.median(passes)
    assert all(0.7 * middle <= p <= 1.3 * middle for p in passes), passes


# What grows, and the networks by size.
GROWING = {
    "width": {n: lambda n=n: networks.chain(3, n, rows=128) for n in (256, 512, 1024, 2048)},
    "depth": {n: lambda n=n: networks.chain(n, 256, rows=128) for n in (4, 8, 16, 32)},
    "batch": {n: lambda n=n: networks.chain(3, 256, rows=n) for n in (128, 512, 2048, 8192)},
}


@pytest.mark.parametrize("what", GROWING)
def test_a_check_grows_no_faster_than_a_training_step(what):
    """The slope of a steady check in training steps, in a plot with two logarithmic axes."""
    steps = []
    for build in GROWING[what].values():
        keras.utils.set_random_seed(0)
        model, x, y = build()
        check = measuring.check(measuring.asked(model, x, y))
        check()
        steps.append(clock.ratio(check, lambda m=model, x=x, y=y: m.train_on_batch(x, y)))
    slope, _ = np.polyfit(np.log([*GROWING[what]]), np.log(steps), 1)
    assert slope <= 0.25, steps


@pytest.mark.parametrize("width", [8, 64], ids=["too narrow to be divided", "divided"])
def test_compile_time_follows_the_models_own(width):
    def ratio(depth):
        model, x, y = networks.chain(depth, width)
        own, _ = clock.once(lambda: model.train_on_batch(x, y))
        checked, _ = clock.once(lambda: measuring.check(measuring.asked(model, x, y))())
        return checked / own

    ratio(10)  # what TensorFlow does once in a process
    shallow, deep = np.median([(ratio(10), ratio(100)) for _ in range(clock.REPEATS)], axis=0)
    assert deep <= 1.3 * shallow, (shallow, deep)


def fit_seconds(epochs, batches, callbacks):
    """Seconds that `fit` takes after its first epoch."""

    class Stopwatch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.times = [*getattr(self, "times", []), time.perf_counter()]

    keras.utils.set_random_seed(0)
    model, x, y = networks.digits()
    many = np.tile(x, (batches, 1)), np.tile(y, batches)
    watch = Stopwatch()
    model.fit(*many, epochs=epochs, batch_size=32, verbose=0, callbacks=[*callbacks, watch])
    return watch.times[-1] - watch.times[0]


def test_a_check_every_epoch_costs_little():
    _, x, y = networks.digits()
    ratios = [
        fit_seconds(6, 1500, [gradhooks.GradientCheck(x, y)]) / fit_seconds(6, 1500, [])
        for _ in range(clock.REPEATS)
    ]
    assert np.median(ratios) <= 1.05, ratios


def test_the_budget_is_kept():
    _, x, y = networks.digits()
    check = gradhooks.GradientCheck(x, y, freq=1, max_overhead=0.02)
    fit_seconds(8, 1500, [check])
    assert len(check.reports) > 3
    assert check.reports[-1].overhead < 0.03
