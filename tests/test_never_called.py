"""With a `loss_fn`, a model with trainable variables need not be called as a whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from tests import digest
from tests.corpora.mutants import planted
from tests.test_bit_identity import seeded

rng = np.random.default_rng(5)
X, Y = rng.normal(size=(16, 4)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")


def part(units, at, *first):
    wrong = planted.Dense(units, on_kernel=at, name="out")
    return keras.Sequential([*first, layers.Dense(5, "tanh"), layers.Dropout(0.1), wrong])


class Adversaries(keras.Model):
    """Two parts, one optimizer each, and no `call`: what is trained are the parts."""

    def __init__(self, at, *first):
        super().__init__()
        self.generator = part(4, at, *first)
        self.discriminator = part(1, planted.honest, layers.Input((4,)))

    def compile(self, **options):
        super().compile(**options)
        self.optimizers = [keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01)]

    def fooled(self, noise, training=True):
        return ops.mean(
            ops.softplus(
                -self.discriminator(self.generator(noise, training=training), training=training)
            )
        )

    def train_step(self, data):
        noise, _ = data
        parts = [self.generator, self.discriminator]
        with tf.GradientTape(persistent=True) as tape:
            losses = [self.fooled(noise), -self.fooled(noise)]
        for part, loss, optimizer in zip(parts, losses, self.optimizers, strict=True):
            variables = part.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": losses[0]}


class Autoencoder(keras.Model):
    """Trains by the model's own optimizer."""

    def __init__(self, at, *first):
        super().__init__()
        self.encoder = part(3, at, *first)
        self.decoder = part(4, planted.honest, layers.Input((3,)))

    def fooled(self, x, training=True):
        return ops.mean(
            (self.decoder(self.encoder(x, training=training), training=training) - x) ** 2
        )

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.fooled(data[0])
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


class Students(Autoencoder):
    """Keeps its parts in a dict, where a frozen one stands beside that which learns."""

    def __init__(self, at, *first):
        keras.Model.__init__(self)
        self.parts = {
            "student": part(2, at, *first),
            "teacher": part(2, planted.honest, layers.Input((4,))),
        }
        self.parts["teacher"].trainable = False

    def fooled(self, x, training=True):
        return ops.mean(
            (self.parts["student"](x, training=training) - self.parts["teacher"](x)) ** 2
        )


def loss_fn(model, x, y, sample_weight, training):
    return model.fooled(x, training)


def build(kind, at=planted.honest, *first, **options):
    keras.utils.set_random_seed(2)
    model = kind(at, *(first or (layers.Input((4,)),)))
    model.compile(optimizer="sgd", **options)
    assert not model.built
    return model


KINDS = [Adversaries, Autoencoder, Students]


@pytest.mark.parametrize("kind", KINDS)
def test_submodels_are_enough(kind):
    model = build(kind)
    left = digest.digest(model)
    report = gradhooks.check_gradients(model, X, Y, loss_fn=loss_fn, samples=8)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64"), report
    assert report.coverage.variables > 1
    assert digest.digest(model) == left
    assert not model.built
    trains_itself = kind is not Adversaries
    assert any(c.reason is Reason.NOT_RECORDED for c in report.comparisons) is not trains_itself


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_gradient_in_one_of_them(kind):
    report = gradhooks.check_gradients(
        build(kind, planted.scale(1.01)), X, Y, loss_fn=loss_fn, samples=32
    )
    assert report.verdict is Verdict.FAIL, report
    assert {c.path.split("/")[-2:][0] for c in report.failures if c.index is not None} == {"out"}


def test_without_a_compile():
    keras.utils.set_random_seed(2)
    model = Autoencoder(planted.honest, layers.Input((4,)))
    assert gradhooks.check_gradients(model, X, loss_fn=loss_fn, samples=4).verdict is Verdict.PASS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_the_callback_checks_at_the_start(kind, run_eagerly):
    def trained(callbacks, at=planted.honest):
        model = seeded(lambda: build(kind, at, run_eagerly=run_eagerly))
        fit = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        return digest.digest(model), fit.history["loss"]

    check = gradhooks.GradientCheck(X, Y, loss_fn=loss_fn, samples=8, on_failure="raise")
    assert trained([check]) == trained([])
    assert [(r.step, r.verdict) for r in check.reports] == [
        (step, Verdict.PASS) for step in (0, 2, 4)
    ]
    with pytest.raises(gradhooks.GradientMismatchError):
        trained(
            [gradhooks.GradientCheck(X, Y, loss_fn=loss_fn, samples=32, on_failure="raise")],
            planted.scale(1.01),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_makes_its_weights_in_the_first_batch(kind):
    """The check must not make them: they would be others than without it."""

    def trained(callbacks):
        model = seeded(lambda: build(kind, planted.honest, layers.Activation("tanh")))
        fit = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        return digest.digest(model), fit.history["loss"]

    check = gradhooks.GradientCheck(X, Y, loss_fn=loss_fn, samples=4)
    assert trained([check]) == trained([])
    assert [(r.step, r.verdict) for r in check.reports] == [
        (1, Verdict.PASS),
        (2, Verdict.PASS),
        (4, Verdict.PASS),
    ]


def test_nor_does_a_check_outside_of_training():
    model = build(Autoencoder, planted.honest, layers.Activation("tanh"))
    left, known = digest.digest(model), len(model.trainable_variables)
    report = gradhooks.check_gradients(model, X, loss_fn=loss_fn)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.ERROR), report
    assert "makes sequential" in report.error
    assert (digest.digest(model), len(model.trainable_variables)) == (left, known)
    model.fooled(X)
    assert gradhooks.check_gradients(model, X, loss_fn=loss_fn).verdict is Verdict.PASS


def test_no_weights_at_all():
    model = keras.Model()
    model.inner = layers.Dense(2)
    with pytest.raises(gradhooks.BadInputError, match="no weights yet"):
        gradhooks.check_gradients(model, X, loss_fn=loss_fn)


def test_without_a_loss_function_it_must_be_built():
    with pytest.raises(gradhooks.BadInputError, match="no weights yet"):
        gradhooks.check_gradients(build(Autoencoder, loss="mse"), X, Y)


class TwoHeads(keras.Model):
    """Compiled with losses that fit none of its outputs: its `train_step` computes its own."""

    def __init__(self):
        super().__init__()
        self.heads = [layers.Dense(2), layers.Dense(2)]

    def call(self, x):
        return self.heads[0](x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = sum(ops.mean((head(x) - y) ** 2) for head in self.heads)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


class WithoutCall(TwoHeads):
    call = keras.Model.call


MISFITS = {
    "losses by names": (TwoHeads, {"near": "mse", "far": "mae"}, Y),
    "no targets": (TwoHeads, "mse", None),
    "no call": (WithoutCall, "mse", Y),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_loss_in_train_step_is_asked_for(case):
    kind, loss, y = MISFITS[case]
    keras.utils.set_random_seed(2)
    model = kind()
    for head in model.heads:
        head.build((None, 4))
    model.built = True
    model.compile("sgd", loss)
    report = gradhooks.check_gradients(model, X, y)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.ERROR), report
    assert "loss_fn=" in report.error

    def right(model, x, y, sample_weight, training):
        return sum(ops.mean((head(x) - y) ** 2) for head in model.heads)

    report = gradhooks.check_gradients(model, X, Y, loss_fn=right, samples=4)
    assert report.verdict is Verdict.PASS, report
