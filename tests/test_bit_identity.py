"""The hardest promise: training with the callback is bit for bit the training without it."""

import random
import warnings

import keras
import numpy as np
import pytest

import gradhooks
from gradhooks.checking import run
from tests import digest, models, needs

pytestmark = pytest.mark.lowest

OWN_KEYS = ("gradcheck_relative_difference", "gradcheck_failures")
MODES = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
}


def seeded(build, **mode):
    digest.seed_generators()
    keras.utils.clear_session(free_memory=False)
    return build(**mode)


def trained(build, make_callbacks, mode):
    model, x, y = seeded(build, **mode)
    callbacks = make_callbacks(x, y)
    history = model.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=callbacks).history
    history = {k: v for k, v in history.items() if k not in OWN_KEYS}
    return digest.digest(model), history, callbacks


@pytest.mark.parametrize("mode", MODES)
def test_every_step_checked_is_every_bit_the_same(mode):
    def check(x, y):
        return [gradhooks.GradientCheck(x, y, freq=1, samples=4, on_failure="ignore")]

    options = {"optimizer": "adam", **MODES[mode]}
    plain, plain_history, _ = trained(models.noisy, lambda x, y: [], options)
    checked, history, (callback,) = trained(models.noisy, check, options)
    assert (
        len(callback.reports) == 9
    )  # the start, before each of the other seven batches, the end of training
    assert all(r.verdict is gradhooks.Verdict.PASS for r in callback.reports)
    assert checked == plain
    assert history == plain_history


OFTEN = ("LSTM", "two-block transformer", "mixed_float16")
OTHERS = [
    pytest.param(n, marks=[] if n in OFTEN else [pytest.mark.system])
    for n in models.HEALTHY
    if n != "tanh MLP"
]


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_too(name):
    def check(x, y):
        return [gradhooks.GradientCheck(x, y, freq=3, samples=4, on_failure="ignore")]

    build = models.HEALTHY[name]
    plain, plain_history, _ = trained(build, lambda x, y: [], {})
    checked, history, _ = trained(build, check, {})
    assert (checked, history) == (plain, plain_history)


def test_native_precision_too():
    def check(x, y):
        return [
            gradhooks.GradientCheck(x, y, freq=3, samples=4, precision="model", on_failure="ignore")
        ]

    plain, plain_history, _ = trained(models.noisy, lambda x, y: [], {})
    checked, history, _ = trained(models.noisy, check, {})
    assert (checked, history) == (plain, plain_history)


class Unbuilt(keras.Model):
    """Makes its weights in its first batch, from the global generators."""

    def __init__(self):
        super().__init__()
        self.inner = [
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]

    def call(self, x, training=False):
        for layer in self.inner:
            x = layer(x, training=training) if isinstance(layer, keras.layers.Dropout) else layer(x)
        return x


# On JAX, `fit` itself builds it before training begins.
FIRST_CHECK_OF_UNBUILT = {"tensorflow": 1, "jax": 0}[keras.backend.backend()]


def unbuilt(**mode):
    keras.utils.set_random_seed(0)
    return models.compiled(Unbuilt(), **mode), *models.data((10,), (1,), 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_is_not_built_yet_is_not_built_by_the_check(mode):
    def check(x, y):
        return [gradhooks.GradientCheck(x, y, freq=1, samples=4, on_failure="ignore")]

    plain, plain_history, _ = trained(unbuilt, lambda x, y: [], MODES[mode])
    checked, history, (callback,) = trained(unbuilt, check, MODES[mode])
    assert (checked, history) == (plain, plain_history)
    assert callback.reports[0].step == FIRST_CHECK_OF_UNBUILT


@pytest.mark.parametrize("after", [1, 3, 40])
def test_a_check_that_raises_half_way_leaves_everything(monkeypatch, after):
    def check(x, y):
        return [gradhooks.GradientCheck(x, y, freq=1, samples=4)]

    plain, plain_history, _ = trained(models.noisy, lambda x, y: [], {})
    remaining = [after]
    original = run.check

    def failing(oracle, *settings):
        losses = oracle.losses

        def counted(*args):
            remaining[0] -= 1
            if remaining[0] < 0:
                raise RuntimeError("half-way")
            return losses(*args)

        oracle.losses = counted
        try:
            return original(oracle, *settings)
        finally:
            del oracle.losses

    monkeypatch.setattr(run, "check", failing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checked, history, (callback,) = trained(models.noisy, check, {})
    assert (checked, history) == (plain, plain_history)
    assert sum(issubclass(w.category, gradhooks.GradientCheckWarning) for w in caught) == (
        after < 20
    )
    broken = [r for r in callback.reports if r.error]
    assert bool(broken) == (after < 20)
    assert all(
        r.verdict is gradhooks.Verdict.INCONCLUSIVE and "half-way" in r.error for r in broken
    )


def test_a_layer_that_raises_in_the_promoted_trace_leaves_its_dtypes():
    class Picky(keras.layers.Layer):
        def call(self, x):
            if keras.backend.standardize_dtype(x.dtype) == "float64":
                raise TypeError("float32 only")
            return x * 2

    keras.utils.set_random_seed(0)
    model, x, y = models.mlp(middle=[Picky(name="picky")])
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    assert report.verdict is gradhooks.Verdict.PASS
    assert report.precision.native_layers == (model.get_layer("picky").path,)


@needs.tensorflow("tf.data")
def test_the_shuffling_of_a_dataset_is_not_advanced():
    import tensorflow as tf

    def order(use):
        dataset = (
            tf.data.Dataset.from_tensor_slices(np.arange(20.0))
            .shuffle(20, seed=3)
            .map(lambda v: (v, v))
            .batch(5)
        )
        use(dataset)
        return [batch[0].numpy().tolist() for batch in dataset]

    from gradhooks.model import batch

    assert order(batch.take_batch) == order(lambda dataset: None)
    # The test can fail: looking at the dataset itself does advance it.
    assert order(lambda dataset: next(iter(dataset))) != order(lambda dataset: None)


def test_the_digest_notices():
    model, x, y = models.noisy()
    before = digest.digest(model)
    model.variables[0].assign(model.variables[0] + 1e-7)
    random.random()
    changed = {name for name, value in digest.digest(model).items() if value != before[name]}
    assert changed == {"weights and seeds", "python"}
    model.evaluate(x, y, verbose=0)
    assert digest.digest(model)["metrics"] != before["metrics"]
