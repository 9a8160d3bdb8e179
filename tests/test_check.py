"""check_gradients() on Keras models: healthy ones pass, planted defects fail."""

import gc

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.checking import run
from gradhooks.checking.settings import THRESHOLDS, Settings
from gradhooks.model import batch, objective, oracle
from gradhooks.verdicts import roundoff
from tests import models, needs
from tools import tally


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 5))]
)
def test_healthy_models_pass(seed, recwarn):
    spent = []
    for name, build in models.HEALTHY.items():
        report = gradhooks.check_gradients(*build(seed), seed=seed)
        spent.append(report.evaluations / 33)
        print(
            f"{name}, seed {seed}: {report.relative_difference}, "
            f"{spent[-1]:.2f} evaluations per probe"
        )
        assert report.verdict is Verdict.PASS, f"{name}\n{report}"
        assert report.precision.level == "float64", name
        assert report.relative_difference["total"] < 1e-7, name
        assert report.relative_difference["data"] < 1e-7, name
        explained = (
            roundoff.tolerance(name.removeprefix("mixed_"))
            if "mixed" in name
            else tally.TRAINED_LIMIT
        )
        assert report.relative_difference["trained"] < explained, name
        assert not report.failures, name
    print(f"evaluations per healthy probe: mean {np.mean(spent):.2f}, largest {max(spent):.2f}")
    # Of which half a one measures the noise, in the first check of a run alone.
    assert np.mean(spent) <= 1.25
    assert not [w for w in recwarn if "gradhooks" in str(w.filename)]


@ops.custom_gradient
def too_large(x):
    return ops.copy(x), lambda upstream: upstream * ops.cast(1.001, upstream.dtype)


class TooLarge(layers.Layer):
    def call(self, x):
        return too_large(x)


class WrongDense(layers.Dense):
    """Only the gradient of its kernel is too large."""

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        return self.activation(ops.matmul(x, too_large(kernel)) + self.bias)


@pytest.mark.parametrize("seed", range(5))
def test_a_factor_of_1_001_below_the_middle_is_named(seed):
    model, x, y = models.mlp(seed, middle=[TooLarge()])
    report = gradhooks.check_gradients(model, x, y, seed=seed)
    assert report.verdict is Verdict.FAIL
    assert report.reason is Reason.MISMATCH
    diagnosis = report.diagnoses[0]
    assert "below" in diagnosis.path
    assert diagnosis.ratio == pytest.approx(1.001, abs=1e-6)
    assert "1.001" in diagnosis.sentence
    assert all("below" in c.path or c.path == "*" for c in report.failures)


@pytest.mark.parametrize("place", range(3))
def test_a_factor_of_1_001_in_one_kernel_is_named(place):
    keras.utils.set_random_seed(0)
    kinds = [layers.Dense] * 3
    kinds[place] = WrongDense
    stack = [
        kind(units, "tanh", name=f"dense{k}")
        for k, (kind, units) in enumerate(zip(kinds, (16, 16, 1), strict=True))
    ]
    model = models.compiled(keras.Sequential([layers.Input((10,)), *stack]))
    report = gradhooks.check_gradients(model, *models.data((10,), (1,), 0))
    assert report.verdict is Verdict.FAIL
    assert {c.path for c in report.failures} <= {model.layers[place].kernel.path, "*"}
    assert report.diagnoses[0].path == model.layers[place].kernel.path
    assert report.diagnoses[0].ratio == pytest.approx(1.001, abs=1e-6)


class WrongPenalty(keras.regularizers.Regularizer):
    def __call__(self, weights):
        @ops.custom_gradient
        def penalty(w):
            return 1e-3 * ops.sum(w**2), lambda upstream: upstream * 1e-3 * w

        return penalty(ops.convert_to_tensor(weights))


def test_a_wrong_penalty_under_a_large_data_gradient():
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((10,)),
        layers.Dense(8, "tanh", kernel_regularizer=WrongPenalty(), name="wrong"),
        layers.Dense(1),
    ]
    x, y = models.data((10,), (1,), 0)
    model = models.compiled(keras.Sequential(stack))
    report = gradhooks.check_gradients(model, x, 10 * y)
    assert report.verdict is Verdict.FAIL
    failed = [c for c in report.failures if c.term == "penalty"]
    assert failed
    assert all(c.path == model.layers[0].kernel.path for c in failed if c.index is not None)
    size = {c.label: abs(c.analytic) for c in report.comparisons if c.term == "data"}
    assert np.median([size[c.label] / abs(c.analytic) for c in failed if c.index is not None]) > 100
    assert "regularizer" in report.diagnoses[0].sentence


def test_a_bias_before_batch_normalization_does_not_fail():
    model, x, y = models.cnn()
    report = gradhooks.check_gradients(model, x, y)
    bias = [c for c in report.comparisons if c.path == model.get_layer("conv").bias.path]
    assert bias
    assert all(c.reason is Reason.VACUOUS for c in bias)
    assert report.verdict is Verdict.PASS


def test_penalty_and_data_add_up():
    model, x, y = models.noisy()
    report = gradhooks.check_gradients(model, x, y)
    assert report.loss["total"] == pytest.approx(
        report.loss["data"] + report.loss["penalty"], rel=1e-12
    )
    expected = float(
        sum(keras.ops.sum(v.regularizer(v)) for v in model.trainable_variables if v.regularizer)
    )
    assert report.loss["penalty"] > expected > 0  # the activity's share comes on top


def test_the_promoted_loss_uses_the_dropout_mask_of_training():
    model, x, y = models.noisy()
    seeds = [v for v in model.variables if "seed" in v.path]
    before = [v.numpy() for v in seeds]
    report = gradhooks.check_gradients(model, x[:32], y[:32])
    trained = model.compute_loss(
        x=x[:32], y=y[:32], y_pred=model(x[:32], training=True), training=True
    )
    assert [v.numpy().tolist() for v in seeds] != [v.tolist() for v in before]
    assert report.loss["total"] == pytest.approx(float(trained), rel=1e-5)
    other = model.compute_loss(
        x=x[:32], y=y[:32], y_pred=model(x[:32], training=True), training=True
    )
    assert report.loss["total"] != pytest.approx(float(other), rel=1e-3)


def test_a_second_check_traces_nothing():
    model, x, y = models.noisy()
    asked = oracle.ModelOracle(objective.Objective(model), batch.take_batch(x, y))
    first = run.check(asked, Settings())  # its train step is traced here
    assert first.verdict is Verdict.PASS
    calls = []
    original = model.compute_loss
    object.__setattr__(model, "compute_loss", lambda *a, **k: calls.append(1) or original(*a, **k))
    traces = asked.traces
    reports = [run.check(asked, Settings(step=step)) for step in range(3)]
    assert asked.traces == traces == 1
    assert not calls
    assert len({c.position for r in reports for c in r.comparisons}) > 40


def test_the_sample_depends_on_seed_and_step_only():
    model, x, y = models.mlp()
    labels = {
        (seed, step): [
            c.label
            for c in gradhooks.check_gradients(model, x, y, seed=seed, step=step).comparisons
        ]
        for seed, step in [(0, 0), (0, 1), (1, 0)]
    }
    assert labels[0, 0] == [
        c.label for c in gradhooks.check_gradients(model, x, y, seed=0, step=0).comparisons
    ]
    assert len({tuple(v) for v in labels.values()}) == 3


@needs.tensorflow("an operation of Keras that takes no float64")
def test_native_layers_are_found_and_named():
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((6, 6, 6, 1)),
        layers.Conv3D(3, 2),
        layers.MaxPooling3D(name="pool"),
        layers.Flatten(),
        layers.Dense(1),
    ]
    model = models.compiled(keras.Sequential(stack))
    report = gradhooks.check_gradients(model, *models.data((6, 6, 6, 1), (1,), 0))
    assert report.verdict is Verdict.PASS
    assert report.precision.level == "partial"
    assert report.precision.native_layers == ("pool",)
    assert "pool" in report.precision.note


def test_constants_in_attributes_are_widened_only_while_tracing():
    class Scaled(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.factor = ops.convert_to_tensor(0.3)

        def call(self, x):
            return x * self.factor

    model, x, y = models.mlp(middle=[Scaled(name="scaled")])
    report = gradhooks.check_gradients(model, x, y)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64")
    assert report.precision.narrow_operations == ()
    factor = model.get_layer("scaled").factor
    assert keras.backend.standardize_dtype(factor.dtype) == "float32"


def test_a_tensor_left_over_from_another_trace_is_harmless():
    class Remembering(keras.layers.Layer):
        def call(self, x):
            self.seen = x * 2
            return x

    model, x, y = models.mlp(middle=[Remembering(name="remembering")])
    model.fit(x, y, verbose=0)
    assert gradhooks.check_gradients(model, x, y).precision.level == "float64"


def test_native_precision_passes_and_says_so():
    model, x, y = models.cnn()
    report = gradhooks.check_gradients(model, x, y, precision="model")
    assert report.verdict is Verdict.PASS
    assert report.precision.level == "model"
    assert report.threshold == THRESHOLDS["model"]


def test_a_loss_function_in_place_of_the_compiled_one():
    model, x, y = models.mlp()

    def loss_fn(model, x, y, sample_weight, training):
        return keras.ops.mean(keras.ops.abs(model(x, training=training) - y) ** 3)

    report = gradhooks.check_gradients(model, x, y, loss_fn=loss_fn, train_step=False)
    assert report.verdict is Verdict.PASS
    assert report.loss["total"] == pytest.approx(
        float(np.mean(np.abs(model(x[:32]) - y[:32]) ** 3)), rel=1e-5
    )


class Counts(layers.Layer):
    """Keeps state in a variable that Keras does not know of."""

    def build(self, shape):
        import tensorflow as tf

        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


@needs.tensorflow("a variable outside Keras")
def test_state_outside_keras_variables_is_refused_and_not_written():
    model, x, y = models.mlp(middle=[Counts(name="counts")])
    calls = model.get_layer("counts").calls
    before = float(calls)
    report = gradhooks.check_gradients(model, x, y)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.ERROR)
    assert "AssignAdd" in report.error
    assert float(calls) == before


@needs.tensorflow("tf.Graph")
def test_no_graph_outlives_a_check():
    """A global registration while tracing would keep every graph, each as large as its model."""
    import tensorflow as tf

    def graphs():
        gc.collect()
        return [o for o in gc.get_objects() if isinstance(o, tf.Graph)]

    model, x, y = models.noisy()
    gradhooks.check_gradients(model, x, y, samples=4)  # what TensorFlow makes once
    before = (
        graphs()
    )  # held, since an earlier test's graph may go at any moment and another take its address
    gradhooks.check_gradients(model, x, y, samples=4)
    known = {id(graph) for graph in before}
    assert [graph for graph in graphs() if id(graph) not in known] == []


def test_an_oracle_takes_on_another_model_of_its_kind():
    first, second = models.mlp(0), models.mlp(1)
    asked = oracle.ModelOracle(
        objective.Objective(first[0], True, None), batch.take_batch(*first[1:])
    )
    assert asked.rebind(second[0], batch.take_batch(*second[1:]))
    rebound = run.check(asked, Settings(samples=4))
    fresh = gradhooks.check_gradients(*second, samples=4)
    assert asked.traces == 1
    # Comparisons are not compared: the first model's names stay.
    assert rebound.loss == fresh.loss
    assert rebound.relative_difference == fresh.relative_difference
    assert not asked.rebind(second[0], batch.take_batch(second[1][:3], second[2][:3]))
    assert not asked.rebind(models.mlp(middle=[layers.Dense(16)])[0], batch.take_batch(*second[1:]))
