"""assert_gradients builds and calls a layer as Keras does; one that raises breaks nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from keras.src.backend.common import global_state

import gradhooks
from gradhooks import Verdict
from gradhooks.testing import assert_gradients

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
OTHER = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
SEQUENCE = np.random.default_rng(2).normal(size=(4, 5, 3)).astype("float32")
WORDS = np.random.default_rng(3).integers(0, 6, size=(4, 2))


@pytest.fixture(autouse=True)
def without_a_seed_generator():
    """As in a fresh process, in which no random number has been drawn."""
    keras.utils.clear_session(free_memory=False)


@tf.custom_gradient
def reversed_gradient(x):
    return tf.identity(x), lambda g: -g


class Subject(layers.Layer):
    """A layer that is right; its mutant returns the gradient of its inputs with the wrong sign."""

    is_wrong = False

    def through(self, x):
        return reversed_gradient(tf.identity(x)) if self.is_wrong else x

    def call(self, x):
        return self.through(x)


def mutant(kind):
    return type(f"Wrong{kind.__name__}", (kind,), {"is_wrong": True})


# Tensors made while a layer is built


class ConstantInBuild(Subject):
    def build(self, shape):
        self.scale = ops.linspace(1.0, 2.0, shape[-1])

    def call(self, x):
        return self.through(x) * self.scale


class ConstantsInBuild(Subject):
    def build(self, shape):
        self.scales = [ops.ones((shape[-1],)) * 2, {"more": ops.arange(shape[-1], dtype="float32")}]

    def call(self, x):
        return self.through(x) * self.scales[0] + self.scales[1]["more"]


class TensorInitializer(Subject):
    def build(self, shape):
        start = ops.linspace(1.0, 2.0, shape[-1])
        self.scale = self.add_weight(
            shape=shape[-1:], initializer=lambda shape, dtype=None: start, name="scale"
        )

    def call(self, x):
        return self.through(x) * self.scale


class RandomInitializer(Subject):
    def build(self, shape):
        self.scale = self.add_weight(
            shape=shape[-1:],
            initializer=lambda shape, dtype=None: keras.random.uniform(shape, dtype=dtype),
            name="scale",
        )

    def call(self, x):
        return self.through(x) * self.scale


class RandomConstant(Subject):
    def build(self, shape):
        self.order = ops.convert_to_numpy(keras.random.shuffle(ops.arange(shape[-1])))

    def call(self, x):
        return ops.take(self.through(x), self.order, -1) ** 3


class NumPyInBuild(Subject):
    def build(self, shape):
        self.scale = np.asarray(ops.linspace(1.0, 2.0, shape[-1]))
        self.shift = float(ops.sum(self.scale))

    def call(self, x):
        return self.through(x) * self.scale + self.shift


class AssignedInBuild(Subject):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")
        self.scale.assign(self.scale.numpy() * np.arange(1.0, shape[-1] + 1))

    def call(self, x):
        return self.through(x) * self.scale


class SeedInBuild(Subject):
    def build(self, shape):
        self.seeds = keras.random.SeedGenerator()

    def call(self, x, training=False):
        return keras.random.dropout(self.through(x), 0.3, seed=self.seeds) if training else x


class VariableOfTensorFlow(Subject):
    def build(self, shape):
        self.shift = tf.Variable(np.full(shape[-1], 2.0, "float32"), trainable=False)

    def call(self, x):
        return self.through(x) ** 2 * tf.cast(self.shift, x.dtype)


# Layers within layers


class BuiltByItsCall(Subject):
    """Its inner layers have no weights before they are called, and it has no `build`."""

    def __init__(self):
        super().__init__()
        self.inner = [layers.Dense(4, "tanh"), layers.Dense(2)]

    def call(self, x):
        x = self.through(x)
        for layer in self.inner:
            x = layer(x)
        return x


class InnerConstant(Subject):
    """Its inner layers make tensors while they are built."""

    def __init__(self):
        super().__init__()
        self.inner = [ConstantInBuild(), TensorInitializer(), RandomInitializer()]

    def build(self, shape):
        for layer in self.inner:
            layer.build(shape)

    def call(self, x):
        x = self.through(x)
        for layer in self.inner:
            x = layer(x)
        return x


class Called(keras.Model):
    """A model around a layer, not compiled, and built by its first call."""

    def __init__(self, kind):
        super().__init__()
        self.inner = [kind(), layers.Dense(2)]

    def call(self, x):
        for layer in self.inner:
            x = layer(x)
        return x


class Within(Called):
    """A model that builds its layers; otherwise Keras would build them while it traces."""

    def build(self, shape):
        for layer in self.inner:
            layer.build(shape)


# More than one input


class OfList(Subject):
    def build(self, shapes):
        self.scale = self.add_weight(shape=(shapes[0][-1],), initializer="ones", name="scale")

    def call(self, inputs):
        one, other = inputs
        return self.through(one) * other * self.scale


class OfDict(Subject):
    def build(self, shapes):
        self.scale = ops.linspace(1.0, 2.0, shapes["one"][-1])

    def call(self, inputs):
        return self.through(inputs["one"]) * inputs["other"] * self.scale


class OfTwo(Subject):
    def build(self, x_shape, context_shape):
        self.scale = ops.linspace(1.0, 2.0, x_shape[-1])

    def call(self, x, context):
        return self.through(x) * ops.tanh(context) * self.scale


class OfWords(Subject):
    def build(self, shape):
        start = ops.reshape(ops.linspace(-1.0, 1.0, 18), (6, 3))
        self.table = self.add_weight(
            shape=(6, 3), initializer=lambda shape, dtype=None: start, name="table"
        )

    def call(self, words):
        return self.through(ops.take(self.table, words, 0)) ** 2


def with_context(layer, x, training):
    return layer(x[0], context=x[1])


# Inputs are tensors


class TensorsOnly(Subject):
    def call(self, x):
        assert not isinstance(x, keras.Variable)
        assert not isinstance(x, tf.Variable)
        assert tf.is_tensor(x)
        assert ops.is_tensor(x)
        return self.through(x) ** 2


class ListOfTensorsOnly(TensorsOnly):
    def call(self, inputs):
        return super().call(inputs[0]) * super().call(inputs[1])


class AsksForItsShape(Subject):
    def call(self, x):
        static, dynamic = x.get_shape()[-1], tf.shape(x)[0]
        assert x.shape.rank == len(x.shape) == 2
        return (
            self.through(x)
            * float(static)
            * tf.cast(dynamic, x.dtype)
            / tf.cast(tf.size(x), x.dtype)
        )


class Sliced(Subject):
    def call(self, x):
        x = self.through(x)
        return tf.concat([x[:, :1] * 2, tf.unstack(x, axis=1)[1][:, None] ** 2, x[..., -1:]], 1)


class Stateless(Subject):
    """Calls an inner layer with its weights doubled."""

    def build(self, shape):
        self.inner = layers.Dense(3)
        self.inner.build(shape)

    def call(self, x):
        twice = [v.value * 2 for v in self.inner.trainable_variables]
        return self.inner.stateless_call(twice, [], self.through(x))[0]


class InnerWrong(layers.Dense):
    def call(self, x):
        return super().call(reversed_gradient(tf.identity(x)))


class StatelessWrong(Stateless):
    """The wrong sign is inside the inner layer."""

    def build(self, shape):
        self.inner = InnerWrong(3)
        self.inner.build(shape)


class WatchesItsInput(Subject):
    """Differentiates with respect to its inputs, as a gradient penalty does."""

    def call(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(x**3)
        return self.through(x) * tape.gradient(y, x)


# By name: kind, inputs, options
CASES = {
    "constant in build": (ConstantInBuild, X, {}),
    "constants in build": (ConstantsInBuild, X, {}),
    "tensor initializer": (TensorInitializer, X, {}),
    "random initializer": (RandomInitializer, X, {}),
    "random constant": (RandomConstant, X, {}),
    "NumPy in build": (NumPyInBuild, X, {}),
    "assigned in build": (AssignedInBuild, X, {}),
    "seed in build": (SeedInBuild, X, {}),
    "variable of TensorFlow": (VariableOfTensorFlow, X, {}),
    "built by its call": (BuiltByItsCall, X, {}),
    "inner constant": (InnerConstant, X, {}),
    "list": (OfList, [X, OTHER], {}),
    "dict": (OfDict, {"one": X, "other": OTHER}, {}),
    "two arguments": (OfTwo, [X, OTHER], {"call": with_context}),
    "words": (OfWords, WORDS, {}),
    "tensors only": (TensorsOnly, X, {}),
    "list of tensors only": (ListOfTensorsOnly, [X, OTHER], {}),
    "asks for its shape": (AsksForItsShape, X, {}),
    "sliced": (Sliced, X, {}),
    "stateless": (Stateless, X, {}),
    "watches its input": (WatchesItsInput, X, {}),
}
# Kinds of models around a layer that is not built, and the layers that Keras can build there.
MAKING = ("constant in build", "tensor initializer", "random initializer", "stateless")
AROUND = {
    "called": (Called, ("built by its call", "stateless", "tensors only")),
    "model": (Within, MAKING),
    "sequential": (
        lambda kind: keras.Sequential([kind(), layers.Dense(2)]),
        (*MAKING, "built by its call"),
    ),
    "with an input": (
        lambda kind: keras.Sequential([layers.Input((3,)), kind(), layers.Dense(2)]),
        MAKING,
    ),
    "model in a model": (lambda kind: keras.Sequential([Within(kind), layers.Dense(2)]), MAKING),
}


def assert_passes(layer, x, **options):
    report = assert_gradients(layer, x, samples=24, **options)
    assert report.verdict is Verdict.PASS
    if np.issubdtype(keras.tree.flatten(x)[0].dtype, np.floating):
        of_inputs = [
            c for c in report.comparisons if c.path.startswith("inputs") and c.index is not None
        ]
        assert any(c.verdict is Verdict.PASS and c.numeric for c in of_inputs), (
            "no derivative of an input was measured"
        )
    return report


def assert_fails(layer, x, **options):
    with pytest.raises(AssertionError, match="FAIL"):
        assert_gradients(layer, x, samples=24, **options)


@pytest.mark.parametrize("case", CASES)
def test_layers_that_are_not_built(case):
    kind, x, options = CASES[case]
    assert_passes(kind(), x, **options)
    keras.utils.clear_session(free_memory=False)
    assert_fails(mutant(kind)(), x, **options)


CALLED = ("list", "built by its call", "two arguments", "tensors only", "stateless", "words")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in CALLED else [pytest.mark.system]) for c in CASES]
)
def test_layers_that_have_been_called(case):
    kind, x, options = CASES[case]
    for subject, check in ((kind(), assert_passes), (mutant(kind)(), assert_fails)):
        call = options.get("call") or (lambda layer, x, training: layer(x))
        call(subject, keras.tree.map_structure(ops.convert_to_tensor, x), False)
        before = [w.numpy() for w in subject.weights]
        check(subject, x, **options)
        assert all(
            np.array_equal(a, w.numpy()) for a, w in zip(before, subject.weights, strict=True)
        )


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(
            name,
            case,
            marks=[pytest.mark.system] if name in ("with an input", "model in a model") else [],
        )
        for name, (_, cases) in AROUND.items()
        for case in cases
    ],
)
def test_layers_within_a_model_that_is_not_built(name, case):
    (around, _), (kind, x, _) = AROUND[name], CASES[case]
    around(kind)(ops.convert_to_tensor(x))  # Keras can
    keras.utils.clear_session(free_memory=False)
    assert_passes(around(kind), x)
    assert_fails(around(mutant(kind)), x)


@pytest.mark.parametrize(
    "case", ["tensors only", "asks for its shape", "sliced", "stateless", "list of tensors only"]
)
def test_operators_of_tensors_keep_every_digit(case):
    kind, x, options = CASES[case]
    assert assert_passes(kind(), x, **options).precision.level == "float64"


def test_a_wrong_sign_within_an_inner_layer():
    assert_fails(StatelessWrong(), X)
    layer = StatelessWrong()
    layer(X)
    assert_fails(layer, X)


def test_inputs_that_matter_are_not_reported_as_unreached():
    assert not [note for note in assert_passes(Stateless(), X).notes if "inputs" in note]


OF_KERAS = {
    "Bidirectional": (lambda: layers.Bidirectional(layers.GRU(2)), SEQUENCE, {}),
    "cells": (lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)]), SEQUENCE, {}),
    "TimeDistributed": (lambda: layers.TimeDistributed(layers.Dense(2, "tanh")), SEQUENCE, {}),
    "BatchNormalization": (lambda: layers.BatchNormalization(), X, {}),
    "Dropout": (lambda: layers.Dropout(0.3), X, {}),
    "attention": (
        lambda: layers.MultiHeadAttention(2, 2),
        [SEQUENCE, SEQUENCE[:, ::-1]],
        {"call": lambda layer, x, training: layer(x[0], x[1])},
    ),
    "Embedding": (lambda: layers.Embedding(6, 3), WORDS, {}),
    "Sequential": (
        lambda: keras.Sequential([layers.Dense(3, "tanh"), layers.LayerNormalization()]),
        X,
        {},
    ),
}


SLOW = ("Bidirectional", "cells", "attention", "Sequential")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.system] if n in SLOW else []) for n in OF_KERAS]
)
def test_layers_of_keras_that_are_not_built(name):
    build, x, options = OF_KERAS[name]
    layer = build()
    assert_passes(layer, x, **options)
    assert layer.built


def test_building_advances_no_state():
    layer = layers.BatchNormalization()
    assert_gradients(layer, X)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(3))
    noisy = layers.Dropout(0.3, seed=5)
    assert_gradients(noisy, X)
    np.testing.assert_array_equal(
        noisy.seed_generator.state.numpy(), layers.Dropout(0.3, seed=5).seed_generator.state
    )


def test_a_layer_is_built_with_the_weights_that_keras_would_give_it():
    keras.utils.set_random_seed(3)
    checked = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    assert_gradients(checked, X)
    keras.utils.set_random_seed(3)
    called = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    called(X)
    for one, other in zip(checked.get_weights(), called.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# What raises while it is built


class RaisesInBuild(Subject):
    def build(self, shape):
        raise RuntimeError("no such build")


class RaisesAfterAWeight(Subject):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        raise ValueError("no such build")


class RaisesInInitializer(Subject):
    def build(self, shape):
        self.add_weight(shape=shape[-1:], initializer=no_initializer, name="scale")


class RaisesInInnerInitializer(Subject):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3, kernel_initializer=no_initializer)

    def call(self, x):
        return self.inner(x)


class RaisesInCall(Subject):
    def call(self, x):
        raise TypeError("no such build")


def no_initializer(shape, dtype=None):
    raise KeyError("no such build")


BROKEN = {
    kind.__name__: kind
    for kind in (RaisesInBuild, RaisesAfterAWeight, RaisesInInitializer, RaisesInCall)
}
BROKEN |= {
    "RaisesInInnerInitializer": RaisesInInnerInitializer,
    "model": lambda: Within(RaisesInInitializer),
    "sequential": lambda: keras.Sequential([layers.Dense(2), RaisesInInitializer()]),
}


def assert_keras_is_whole():
    assert global_state.get_global_attribute("stateless_scope") is None
    assert global_state.get_global_attribute("symbolic_scope") is None
    assert not keras.src.backend.common.stateless_scope.in_stateless_scope()
    assert keras.config.floatx() == "float32"
    assert layers.Dense(3)(np.ones((2, 4))).shape == (2, 3)
    variable = keras.Variable(initializer=keras.initializers.RandomNormal(), shape=(2, 3))
    assert np.isfinite(variable.numpy()).all()
    variable.assign(np.ones((2, 3)))
    assert keras.random.uniform((2,)).dtype == tf.float32
    model = keras.Sequential(
        [layers.Input((3,)), layers.Dropout(0.5), ConstantInBuild(), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0)
    assert gradhooks.check_gradients(model, X, X[:, :1], samples=4).verdict is Verdict.PASS
    assert_passes(layers.Dense(2), X)
    assert_passes(TensorInitializer(), X)
    assert_fails(mutant(TensorInitializer)(), X)


@pytest.mark.parametrize("name", BROKEN)
def test_a_layer_that_cannot_be_built_leaves_keras_intact(name):
    with pytest.raises(Exception, match="no such build"):
        assert_gradients(BROKEN[name](), X)
    assert_keras_is_whole()


def test_several_broken_layers_in_turn_leave_keras_intact():
    for build in BROKEN.values():
        with pytest.raises(Exception, match="no such build"):
            assert_gradients(build(), X)
        assert_passes(ConstantInBuild(), X)
    assert_keras_is_whole()


def test_an_interrupt_while_a_layer_is_built_propagates():
    class Interrupted(Subject):
        def build(self, shape):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assert_gradients(Interrupted(), X)
    assert_keras_is_whole()


def test_an_interrupt_within_an_initializer_propagates():
    def interrupting(shape, dtype=None):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assert_gradients(layers.Dense(2, kernel_initializer=interrupting), X)
    assert_keras_is_whole()
