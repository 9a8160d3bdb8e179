"""Variables that the loss reads and Keras does not know: named, unless meant to be frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Verdict
from tests import models


class Scale(layers.Layer):
    """Multiplies by a variable that it makes in one way or another."""

    def __init__(self, make, **kwargs):
        super().__init__(**kwargs)
        self._make = make

    def build(self, shape):
        self.factor = self._make(self, shape[-1])

    def call(self, x):
        factor = self.factor() if callable(self.factor) else self.factor
        return x * ops.cast(ops.convert_to_tensor(factor), x.dtype)


class Looped(Scale):
    """Reads it in a loop of TensorFlow's."""

    def call(self, x):
        return tf.while_loop(
            lambda k, _: k < 2, lambda k, x: (k + 1, x * tf.cast(self.factor, x.dtype)), (0, x)
        )[1]


class Module(tf.Module):
    def __init__(self, size):
        super().__init__()
        self.inside = {"factor": tf.Variable(tf.fill((size,), 1.1), name="inside")}

    def __call__(self):
        return self.inside["factor"]


class Helper:
    """A plain object with a variable of Keras'."""

    def __init__(self, size):
        self.factor = keras.Variable(np.full(size, 1.1), name="helped")

    def __call__(self):
        return self.factor


class TrainsItself(keras.Sequential):
    """Its step trains the variable that Keras does not know."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        weights = [*self.trainable_variables, self.get_layer("scale").factor]
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def filled(size, **options):
    return tf.Variable(tf.fill((size,), 1.1), name="gain", **options)


def built(make, kind=Scale, model=keras.Sequential, loss="mse"):
    keras.utils.set_random_seed(0)
    scale = kind(make, name="scale")
    model = model(
        [layers.Input((10,)), layers.Dense(6, "tanh"), scale, layers.Dense(1, name="head")]
    )
    return models.compiled(model, loss)


TEMPERATURE = tf.Variable(1.5, name="temperature")


def tempered(y, y_pred):
    return ops.mean(ops.square(y - y_pred / ops.cast(TEMPERATURE, y_pred.dtype)), axis=-1)


def tracked(layer, size):
    return layer.add_weight(shape=(size,), initializer="ones", name="gain")


NAMED = {
    "an attribute": (
        lambda: built(lambda layer, n: filled(n)),
        "scale.factor (6 numbers), which is no weight",
    ),
    "in a loop": (lambda: built(lambda layer, n: filled(n), Looped), "scale.factor (6 numbers)"),
    "in a module": (lambda: built(lambda layer, n: Module(n)), "(6 numbers), which is no weight"),
    "in a helper": (lambda: built(lambda layer, n: Helper(n)), "factor (6 numbers)"),
    "in the loss": (lambda: built(tracked, loss=tempered), "temperature (1 number)"),
    "two": (
        lambda: built(lambda layer, n: filled(n), loss=tempered),
        "which are no weights of the model",
    ),
}
SILENT = {
    "add_weight": lambda: built(tracked),
    "a variable of Keras' on the layer": lambda: built(
        lambda layer, n: keras.Variable(np.full(n, 1.1))
    ),
    "a table that is not to be trained": lambda: built(lambda layer, n: filled(n, trainable=False)),
    "integers": lambda: built(lambda layer, n: tf.Variable(tf.fill((n,), 2))),
    "a constant": lambda: built(lambda layer, n: tf.fill((n,), 1.1)),
    "the number of steps": lambda: built(tracked, loss=by_iteration()),
    "everything that draws and counts": lambda: models.noisy()[0],
}


def by_iteration():
    """A loss that changes with the optimizer's count."""
    optimizer = keras.optimizers.SGD()

    def loss(y, y_pred):
        return ops.mean(ops.square(y - y_pred), axis=-1) / (
            1 + ops.cast(optimizer.iterations, y_pred.dtype)
        )

    return loss


def checked(model, **options):
    noisy = model.loss == "sparse_categorical_crossentropy"
    x, y = models.data((10,), 3 if noisy else (1,), 0)
    return gradhooks.check_gradients(model, x, y, samples=4, **options), (x, y)


def find_read_notes(report):
    return [note for note in report.notes if note.startswith("the loss reads")]


@pytest.mark.parametrize("case", NAMED)
def test_what_is_never_trained_is_named(case):
    make, words = NAMED[case]
    model = make()
    report, data = checked(model)
    assert report.verdict is Verdict.PASS
    (note,) = find_read_notes(report)
    assert words in note
    read = [
        v
        for v in [getattr(model.get_layer("scale"), "factor", None), TEMPERATURE]
        if isinstance(v, tf.Variable)
    ]
    before = [v.numpy() for v in read]
    model.fit(*data, verbose=0)
    assert all(np.array_equal(v.numpy(), b) for v, b in zip(read, before, strict=True))


@pytest.mark.parametrize("case", SILENT)
def test_what_is_trained_or_meant_to_stay_is_no_news(case):
    report, _ = checked(SILENT[case]())
    assert report.verdict is Verdict.PASS
    assert find_read_notes(report) == []


@pytest.mark.parametrize("kind", [TrainsItself, keras.Sequential])
def test_a_step_that_trains_it_itself_is_right(kind):
    report, _ = checked(built(lambda layer, n: filled(n), model=kind))
    assert report.verdict is Verdict.PASS
    assert bool(find_read_notes(report)) is (kind is keras.Sequential)


class Distilled(keras.losses.Loss):
    """Learns from another model's answers as well; the loss holds the model."""

    def __init__(self, teacher, x):
        super().__init__()
        self.teacher, self.x = teacher, x

    def call(self, y, y_pred):
        taught = ops.cast(self.teacher(self.x), y_pred.dtype)
        return ops.mean(ops.square(y - y_pred), -1) + ops.mean(ops.square(taught - y_pred), -1)


@pytest.mark.parametrize("is_trainable", [True, False])
def test_a_teacher_is_one_remark_and_none_if_frozen(is_trainable):
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [layers.Input((10,)), layers.Dense(5, "tanh"), layers.Dense(1)], name="teacher"
    )
    teacher.trainable = is_trainable
    x, _ = models.data((10,), (1,), 0)
    model = built(tracked, loss=Distilled(teacher, x[:32]))
    report, _ = checked(model)
    assert report.verdict is Verdict.PASS
    expected = (
        "the loss reads weights of teacher, which is no part of the model and not trained with it"
    )
    assert find_read_notes(report) == ([expected] if is_trainable else [])


def test_a_model_that_only_its_own_loss_function_knows():
    keras.utils.set_random_seed(0)
    critic = keras.Sequential(
        [layers.Input((1,)), layers.Dense(3, "tanh"), layers.Dense(1)], name="critic"
    )

    def judged(model, x, y, sample_weight, training):
        return -ops.mean(critic(model(x, training=training)))

    report, _ = checked(built(tracked), loss_fn=judged, train_step=False)
    assert report.verdict is Verdict.PASS
    assert find_read_notes(report) == [
        "the loss reads weights of critic, which is no part of the model and not trained with it"
    ]
