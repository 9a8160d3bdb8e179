"""What a pass rests on: numeric measurements that pass, and nothing else."""

import functools

import keras
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Reason, Verdict
from tests import models
from tests.corpora.corpus import compiled, features, integers, seeded
from tests.corpora.mutants import planted
from tests.corpora.unproved import ENTRIES, offsets
from tests.corpora.unproved.building import HEALTHY, applied, regression, stem
from tests.corpora.unproved.judging import check_entry

BY_NAME = {entry.name: entry for entry in ENTRIES}
# One for every way in which nothing can be measured.
DROWNED = (
    "loss far by 1e9, small gradients",
    "loss far by 1e9 in compute_loss",
    "sign at zero",
    "routing with a tie",
    "curvature of ReLUs that set in at an end",
)
# Here something can be measured, and something vanishes.
MEASURED = ("loss far by 1e6", "dead units", "shut gate", "layer times 1e-12", "unused experts")

pytestmark = pytest.mark.usefixtures("unoptimized")


@functools.cache
def examined(name, factor):
    """The report on an entry of the corpus: one check, for all the tests that look at it."""
    return check_entry(BY_NAME[name], factor)


def numeric(report):
    """The comparisons with what was measured; those with what the optimizer receives are others."""
    return [c for c in report.comparisons if c.term != "trained"]


def passed(report):
    """Paths of the variables of which a measurement passed."""
    return {c.path for c in numeric(report) if c.verdict is Verdict.PASS} - {"*"}


# Nothing measured


@pytest.mark.parametrize("options", [{}, {"train_step": False}, {"precision": "model"}], ids=str)
@pytest.mark.parametrize("factor", [HEALTHY, 3.0, -1.0])
def test_a_loss_that_drowns_its_gradient_is_left_undecided(factor, options):
    model, x, y, _ = offsets.drowned(factor)
    report = gradhooks.check_gradients(model, x, y, **options)
    assert report.verdict is Verdict.INCONCLUSIVE, report


@pytest.mark.parametrize(
    ("factor", "verdict"), [(HEALTHY, Verdict.PASS), (3.0, Verdict.FAIL), (-1.0, Verdict.FAIL)]
)
def test_the_same_gradient_is_decided_without_the_offset(factor, verdict):
    model, x, y, _ = offsets.drowned(factor, offset=0.0)
    assert gradhooks.check_gradients(model, x, y).verdict is verdict


@pytest.mark.parametrize("name", DROWNED)
def test_the_optimizer_s_gradient_proves_nothing(name):
    """It agrees with backpropagation, and what that is worth was not measured."""
    model, x, y, options = BY_NAME[name].build(HEALTHY)
    report = gradhooks.check_gradients(model, x, y, **options)
    alone = gradhooks.check_gradients(model, x, y, train_step=False, **options)
    assert any(c.term == "trained" and c.verdict is Verdict.PASS for c in report.comparisons)
    assert report.verdict is alone.verdict, report


def test_no_check_of_a_training_passes_where_nothing_is_measured():
    model, x, y, _ = offsets.drowned(-1.0)
    check = gradhooks.GradientCheck(x, y, freq=1, on_failure="ignore", verbose=0)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[check])
    assert len(check.reports) >= 2
    assert {report.verdict for report in check.reports} == {Verdict.INCONCLUSIVE}


# Coverage


@pytest.mark.parametrize("factor", [HEALTHY, 3.0])
@pytest.mark.parametrize("name", [*DROWNED, *MEASURED])
def test_coverage_is_what_measurements_have_proved(name, factor):
    report = examined(name, factor)
    assert report.coverage.variables <= len(passed(report)), report
    if not report.coverage.variables:
        assert report.verdict is not Verdict.PASS, report


def test_all_of_a_healthy_network_is_covered():
    report = gradhooks.check_gradients(*models.mlp())
    assert report.coverage.variables == report.coverage.variables_total == len(passed(report))


# Samples go where a gradient is


def recommender(on_users=planted.honest, on_items=planted.honest):
    """Of 100 000 rows 64 are in the batch, and have a gradient."""
    rng = seeded(0)
    users, items = (
        keras.Input((), dtype="int32", name="users"),
        keras.Input((), dtype="int32", name="items"),
    )
    vectors = [
        applied(function, layers.Embedding(50_000, 8, name=f"{ids.name}_table")(ids))
        for ids, function in ((users, on_users), (items, on_items))
    ]
    outputs = layers.Dense(1, name="head")(layers.Concatenate()(vectors))
    x = {name: integers(rng, 50_000, 32) for name in ("users", "items")}
    return compiled(keras.Model({"users": users, "items": items}, outputs)), x, features(rng, 32, 1)


def test_a_few_rows_of_large_tables_are_found():
    report = gradhooks.check_gradients(*recommender(), samples=32, train_step=False)
    assert report.verdict is Verdict.PASS, report
    assert report.coverage.variables == report.coverage.variables_total, report


def half_lost(upstream):
    """Every other row of the batch gets no gradient."""
    kept = tf.range(tf.shape(upstream)[0]) % 2 == 0
    return upstream * tf.cast(kept, upstream.dtype)[:, None]


@pytest.mark.parametrize(
    "planting",
    [
        {"on_users": planted.scale(1.1)},
        {"on_items": planted.scale(-1.0)},
        {"on_items": planted.identity(half_lost)},
    ],
    ids=["times 1.1", "times -1", "wrongly zero"],
)
def test_a_table_with_a_wrong_gradient_fails(planting):
    """A gradient that is zero by mistake is found, although the samples go elsewhere."""
    report = gradhooks.check_gradients(*recommender(**planting), samples=32, train_step=False)
    assert report.verdict is Verdict.FAIL, report


def residual(factor, blocks=30):
    """Each branch has two dense layers; the last is still zero, so the first has no gradient."""
    seeded(0)
    inputs, hidden = stem(factor)
    for k in range(blocks):
        inner = layers.Dense(6, "tanh", name=f"inner_{k}")(hidden)
        hidden = layers.Add()(
            [hidden, layers.Dense(4, kernel_initializer="zeros", name=f"last_{k}")(inner)]
        )
    return regression(inputs, hidden)[:3]


def test_what_has_no_gradient_yet_takes_few_samples():
    """Of 124 variables 64 have a gradient, twice as many as there are samples."""
    report = gradhooks.check_gradients(*residual(HEALTHY), samples=32, train_step=False)
    assert report.verdict is Verdict.PASS, report
    drawn = [c for c in report.comparisons if c.index is not None and c.term == "total"]
    assert sum(c.analytic != 0 for c in drawn) >= 0.75 * len(drawn), report
    assert report.coverage.variables >= 24, report


@pytest.mark.parametrize("factor", [1.1, -1.0])
def test_below_what_has_no_gradient_yet_a_wrong_one_fails(factor):
    report = gradhooks.check_gradients(*residual(factor), samples=32, train_step=False)
    assert report.verdict is Verdict.FAIL, report


# What vanishes


class Scaled(layers.Layer):
    """Adds a weight that is multiplied by zero."""

    def build(self, shape):
        self.lost = self.add_weight(shape=(shape[-1],), name="lost")

    def call(self, x):
        return x + 0.0 * self.lost


class Idle(layers.Layer):
    """Has a weight that nothing reads."""

    def build(self, shape):
        self.lost = self.add_weight(shape=(shape[-1],), name="lost")

    def call(self, x):
        return x


def asleep(x):
    """Adds what a dead unit gives."""
    below_zero = keras.initializers.Constant(-100.0)
    return layers.Add()([x, layers.Dense(4, "relu", bias_initializer=below_zero, name="lost")(x)])


@pytest.mark.parametrize(
    "vanishing",
    [lambda x: Scaled()(x), lambda x: Idle()(x), asleep],
    ids=["times 0", "idle", "asleep"],
)
@pytest.mark.parametrize(("factor", "verdict"), [(HEALTHY, Verdict.PASS), (1.1, Verdict.FAIL)])
def test_a_variable_without_a_gradient_is_in_nobody_s_way(vanishing, factor, verdict):
    seeded(0)
    inputs, hidden = stem(factor)
    report = gradhooks.check_gradients(*regression(inputs, vanishing(hidden))[:3])
    assert report.verdict is verdict, report
    assert not [c for c in report.failures if "lost" in c.path]


@pytest.mark.parametrize("factor", [HEALTHY, 3.0])
@pytest.mark.parametrize("name", [*DROWNED, *MEASURED])
def test_vacuous_means_that_both_are_zero(name, factor):
    """An error bar as wide as the derivative is no zero."""
    report = examined(name, factor)
    largest = max(abs(c.analytic) for c in numeric(report) if c.index is not None)
    assert largest > 0
    for c in report.vacuous:
        if c.term == "trained":
            assert c.analytic_norm <= 1e-9 * largest, c
            assert c.received_norm <= c.rounding, c
        else:
            assert max(abs(c.analytic), c.magnitude) <= 1e-9 * largest, c
            assert abs(c.numeric) <= c.error, c


def test_something_is_vacuous_where_layers_are_dead():
    reasons = {c.path: c.reason for c in numeric(examined("dead units", HEALTHY))}
    assert reasons["dead/kernel"] is Reason.VACUOUS
    assert reasons["below/kernel"] is Reason.AGREES
