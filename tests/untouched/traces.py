"""Small networks that hold variables themselves: in `tf.function`, tapes, own gradients.

Every `build` takes a factor, by which the gradient is wrong in the very place
that is in question; at 1 nothing is planted.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks.reports.reasons import Reason
from tests import digest, variants
from tests.corpora.mutants import planted
from tests.test_bit_identity import OWN_KEYS

ROWS, WIDTH = 16, 5
# Variables by their place in the network, in forward order.
BELOW, ABOVE = ("below/kernel", "below/bias"), ("head/kernel", "head/bias")
UP_TO_W = (*BELOW, "middle/w")
EVERYTHING = (*UP_TO_W, *ABOVE)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way of holding on to variables.

    Args:
        name: Unique name; part of the test's id.
        build: `build(factor)` returns a compiled model.
        functions: `functions(model)` returns every `tf.function` of the user's in it.
        wrong: Ends of the paths of the variables whose gradient a planted
            factor spoils; all others stay right.
        factor: The factor to plant.
        layer: `layer(factor)` returns what is in question as a layer alone, if it is one.
        steps_itself: Whether it is `train_step` that a loop of one's own must call.
        impossible: Modes that TensorFlow itself cannot train it in, with the reason.
    """

    name: str
    build: Callable
    functions: Callable = lambda model: []
    wrong: tuple[str, ...] = UP_TO_W
    factor: float = 1.01
    layer: Callable | None = None
    steps_itself: bool = False
    impossible: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self):
        return self.name

    def healthy(self, mode=variants.MODES[0]):
        return self._made(1.0, mode)

    def mutant(self, mode=variants.MODES[0]):
        return self._made(self.factor, mode)

    def _made(self, factor, mode):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = self.build(factor)
        model.run_eagerly, model.jit_compile = mode.is_eager, mode.is_xla
        return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, WIDTH)).astype("float32"), rng.normal(size=(ROWS, 1)).astype(
        "float32"
    )


def slip_of(factor):
    """The identity, whose gradient is wrong by the factor."""
    return planted.honest if factor == 1 else planted.scale(factor)


class Network(keras.Model):
    """`below`, the layer in question and `head`."""

    def __init__(self, middle, factor=1.0):
        super().__init__(name="network")
        self.factor, self.slip = factor, slip_of(factor)
        self.below = layers.Dense(WIDTH, "tanh", name="below")
        self.middle, self.head = middle, layers.Dense(1, name="head")

    def build(self, shape):
        for layer in (self.below, self.middle, self.head):
            layer.build((None, WIDTH))

    def call(self, x):
        return self.head(self.middle(self.below(x)))


class Plain(layers.Layer):
    """tanh(x w), with nothing else about it."""

    def __init__(self, factor=1.0):
        super().__init__(name="middle")
        self.factor, self.slip = factor, slip_of(factor)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

    def body(self, x):
        return self.slip(tf.tanh(tf.matmul(x, self.w)))

    def call(self, x):
        return self.body(x)


def compiled(model, loss="mse", **options):
    model.build((None, WIDTH))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), loss, **options)
    return model


def around(layer):
    """Returns a builder of a network with a layer in its middle."""
    return lambda factor: compiled(Network(layer(factor)))


# Functions that cache traces.


class DecoratedCall(Plain):
    @tf.function
    def call(self, x):
        return self.body(x)


def decorated(**options):
    """Returns a layer with a helper method that is a `tf.function` with these options."""

    class Decorated(Plain):
        @tf.function(**options)
        def features(self, x):
            return self.body(x)

        def call(self, x):
            return self.features(x)

    return Decorated


class Lazy(Plain):
    """Makes its function when it is first called."""

    def __init__(self, factor):
        super().__init__(factor)
        self.fn = None

    def call(self, x):
        if self.fn is None:
            self.fn = tf.function(self.body)
        return self.fn(x)


class Listed(Plain):
    def __init__(self, factor):
        super().__init__(factor)
        self.stages = [tf.function(self.body), tf.function(tf.sin)]

    def call(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


class Helper:
    """Neither a layer nor a module."""

    def __init__(self, owner):
        self.owner = owner

    @tf.function
    def features(self, x):
        return self.owner.body(x)


class Helped(Plain):
    def __init__(self, factor):
        super().__init__(factor)
        self.helper = Helper(self)

    def call(self, x):
        return self.helper.features(x)


class Nested(Plain):
    @tf.function
    def inner(self, x):
        return self.body(x)

    @tf.function
    def outer(self, x):
        return tf.sin(self.inner(x)) + self.inner(tf.cos(x))

    def call(self, x):
        return self.outer(x)


class Numbered(Plain):
    """A number of Python's is part of what a trace is kept for."""

    @tf.function
    def power(self, x, exponent):
        return self.body(x) ** exponent

    def call(self, x):
        return self.power(x, 2.0) + self.power(x, 3.0)


class Branching(Plain):
    @tf.function
    def features(self, x):
        if tf.reduce_mean(x) > 0:
            features = self.body(x)
        else:
            features = self.body(-x)
            features *= 2.0
        return features

    def call(self, x):
        return self.features(x)


class LoopingOverRows(Plain):
    @tf.function
    def features(self, x):
        total = tf.zeros_like(x[0])
        for row in x:
            total += row**2
        return self.body(x + total / tf.cast(tf.shape(x)[0], x.dtype))

    def call(self, x):
        return self.features(x)


class LoopingOverARange(Plain):
    @tf.function
    def features(self, x):
        for i in tf.range(3):
            x = self.body(x) + 0.1 * tf.cast(i, x.dtype)
        return x

    def call(self, x):
        return self.features(x)


class LoopingWhile(Plain):
    """The number of iterations depends on tensors; a helper without decorator has the loop."""

    def repeated(self, x):
        rounds = 0
        while rounds < 5 and tf.reduce_max(tf.abs(x)) > 0.45:
            x = 0.7 * self.body(x)
            rounds += 1
        return x

    @tf.function
    def features(self, x):
        return self.repeated(x)

    def call(self, x):
        return self.features(x)


def global_function(x, w):
    raise NotImplementedError(
        "made anew for every network, so that it has no traces of the last one"
    )


class CallingGlobal(Plain):
    def call(self, x):
        return global_function(x, tf.convert_to_tensor(self.w))


def with_global_function(factor):
    global global_function
    slip = slip_of(factor)
    global_function = tf.function(lambda x, w: slip(tf.tanh(tf.matmul(x, w))))
    return compiled(Network(CallingGlobal()))


# What no attribute of the network made last leads to.
HIDDEN = {}


def with_closure(factor):
    """A function that nothing but the closure of a method holds."""
    inner = Plain(factor)
    function = tf.function(inner.body)

    class Enclosing(Network):
        def call(self, x):
            return self.head(function(self.below(x)))

    HIDDEN["closure"] = function
    return compiled(Enclosing(inner))


def with_loss(factor):
    slip = slip_of(factor)

    @tf.function
    def squares(y, y_pred):
        return tf.reduce_mean(tf.square(slip(y_pred) - y), axis=-1)

    HIDDEN["loss"] = squares
    return compiled(Network(Plain()), squares)


class OwnMetric(keras.metrics.Metric):
    """The mean distance, computed by a function; what is planted there is in nobody's gradient."""

    def __init__(self, factor):
        super().__init__(name="own")
        self.factor, self.slip = factor, slip_of(factor)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    @tf.function
    def distance(self, y_true, y_pred):
        return tf.reduce_mean(tf.abs(self.slip(y_pred) - tf.cast(y_true, y_pred.dtype)))

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(tf.cast(self.distance(y_true, y_pred), self.total.dtype))
        self.count.assign_add(1.0)

    def result(self):
        return self.total / self.count


def with_metric(factor):
    metric = OwnMetric(factor)
    HIDDEN["metric"] = metric.distance
    return compiled(Network(Plain()), metrics=[metric])


class OwnStep(Network):
    @tf.function
    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.slip(self.compute_loss(x, y, self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class OwnGradients(Network):
    """Only the gradients are computed by a function."""

    @tf.function
    def gradients(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.slip(self.compute_loss(x, y, self(x, training=True)))
        return loss, tape.gradient(loss, self.trainable_variables)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        loss, gradients = self.gradients(x, y)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class DecoratedNetwork(Network):
    @tf.function
    def call(self, x):
        return self.head(self.middle(self.below(x)))


def sequential(factor):
    """Traces its layers while it is built, on inputs that stand for any number of rows."""
    stack = [
        layers.Dense(WIDTH, "tanh", name="below"),
        DecoratedCall(factor),
        layers.Dense(1, name="head"),
    ]
    return compiled(keras.Sequential([keras.Input((WIDTH,)), *stack], name="network"))


def method(name):
    """Returns a function that finds a method of the layer in the middle."""
    return lambda model: [getattr(model.middle, name)]


def stepping(name, network):
    """Returns a kind whose function of this name hands the optimizer a wrong gradient."""
    return Kind(
        name,
        lambda factor: compiled(network(Plain(), factor)),
        lambda model: [getattr(model, name)],
        EVERYTHING,
        steps_itself=True,
    )


TRACED = [
    Kind("call", around(DecoratedCall), method("call")),
    Kind(
        "call of the model",
        lambda factor: compiled(DecoratedNetwork(Plain(factor))),
        lambda model: [model.call],
    ),
    Kind("call in Sequential", sequential, lambda model: [model.get_layer("middle").call]),
    Kind("method", around(decorated()), method("features")),
    Kind(
        "input_signature",
        around(decorated(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32)])),
        method("features"),
    ),
    Kind("jit_compile", around(decorated(jit_compile=True)), method("features")),
    Kind(
        "reduce_retracing", around(decorated(reduce_retracing=True)), method("features"), factor=3
    ),
    Kind("autograph=False", around(decorated(autograph=False)), method("features"), factor=3),
    Kind("loss", with_loss, lambda model: [HIDDEN["loss"]], EVERYTHING),
    Kind("metric", with_metric, lambda model: [HIDDEN["metric"]], (), steps_itself=True),
    stepping("train_step", OwnStep),
    stepping("gradients", OwnGradients),
    Kind("global", with_global_function, lambda model: [global_function]),
    Kind("closure", with_closure, lambda model: [HIDDEN["closure"]]),
    Kind(
        "lazy", around(Lazy), lambda model: [model.middle.fn] if model.middle.fn else [], factor=3
    ),
    Kind("list", around(Listed), lambda model: list(model.middle.stages)),
    Kind("helper object", around(Helped), lambda model: [model.middle.helper.features]),
    Kind("nested", around(Nested), lambda model: [model.middle.outer, model.middle.inner]),
    Kind("number", around(Numbered), method("power")),
    Kind("if", around(Branching), method("features")),
    Kind("for row", around(LoopingOverRows), method("features")),
    Kind("for range", around(LoopingOverARange), method("features"), factor=3),
    Kind(
        "while",
        around(LoopingWhile),
        method("features"),
        impossible={"xla": "a loop of unknown length"},
    ),
]


# Variables found by identity or by their resource: each layer has a place for a defect in what it
# does by hand.


class Recomputed(layers.Layer):
    """`tf.recompute_grad` around a layer."""

    def __init__(self, factor):
        super().__init__(name="outer")
        self.inner = Plain(factor)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return tf.recompute_grad(self.inner)(x)


class RecomputedTogether(layers.Layer):
    """`tf.recompute_grad` around a function of two layers, with the defect between the two."""

    def __init__(self, factor):
        super().__init__(name="outer")
        self.factor, self.slip = factor, slip_of(factor)
        self.inner, self.last = Plain(), layers.Dense(WIDTH, "tanh", name="last")

    def build(self, shape):
        self.inner.build(shape)
        self.last.build(shape)

    def call(self, x):
        return tf.recompute_grad(lambda x: self.last(self.slip(self.inner(x))))(x)


class RecomputedInFunction(Recomputed):
    @tf.function
    def call(self, x):
        return tf.recompute_grad(self.inner)(x)


class ByHand(Plain):
    """The gradient of x w by hand: TensorFlow names the variables that were read."""

    def call(self, x):
        @tf.custom_gradient
        def product(x):
            w = tf.convert_to_tensor(self.w)

            def grad(dy, variables=None):
                return tf.matmul(dy, w, transpose_b=True), [
                    self.factor * tf.matmul(x, dy, transpose_a=True)
                ]

            return tf.matmul(x, w), grad

        return tf.tanh(product(x))


class TwoByHand(Plain):
    """x w + b by hand, with the defect in the gradient of b."""

    def build(self, shape):
        super().build(shape)
        self.b = self.add_weight(shape=(shape[-1],), name="b")

    def ordered(self, variables, dw, db):
        """TensorFlow sorts them by name."""
        return [db, dw]

    def call(self, x):
        @tf.custom_gradient
        def affine(x):
            w = tf.convert_to_tensor(self.w)

            def grad(dy, variables=None):
                dw, db = tf.matmul(x, dy, transpose_a=True), self.factor * tf.reduce_sum(dy, 0)
                return tf.matmul(dy, w, transpose_b=True), self.ordered(variables, dw, db)

            return tf.matmul(x, w) + self.b, grad

        return tf.tanh(affine(x))


class TwoByIdentity(TwoByHand):
    def ordered(self, variables, dw, db):
        assert len(variables) == 2
        return [dw if v is self.w.value else db for v in variables]


class TwoByShape(TwoByHand):
    def ordered(self, variables, dw, db):
        return [dw if v.shape.rank == 2 else db for v in variables]


class InnerStep(Plain):
    """One step of gradient descent on its own weights before they are used."""

    def stepped(self, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.matmul(x, self.w) - x))
        [gradient] = tape.gradient(loss, self.trainable_variables)
        return tf.tanh(tf.matmul(x, self.w - 0.5 * self.slip(gradient)))

    def call(self, x):
        return self.stepped(x)


class InnerStepInFunction(InnerStep):
    @tf.function
    def call(self, x):
        return self.stepped(x)


class InnerStepOfWatched(Plain):
    """Watches its weights by hand, and nothing else."""

    def call(self, x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.w.value)
            loss = tf.reduce_mean(tf.square(tf.matmul(x, self.w) - x))
        return tf.tanh(tf.matmul(x, self.w - 0.5 * self.slip(tape.gradient(loss, self.w.value))))


class InnerStepsInLoop(Plain):
    def call(self, x):
        def body(i, z):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(tf.matmul(z, self.w) - x))
            gradient = tape.gradient(loss, self.w)
            return i + 1, tf.tanh(tf.matmul(z, self.w - 0.5 * self.slip(gradient)))

        return tf.while_loop(lambda i, z: i < 3, body, (0, x), maximum_iterations=3)[1]


class Curved(Plain):
    """Adds to its weights what second derivatives by them say."""

    def call(self, x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                energy = tf.reduce_mean(tf.cos(tf.matmul(x, self.w)))
            along = tf.reduce_sum(tf.sin(inner.gradient(energy, self.w)))
        return tf.tanh(tf.matmul(x, self.w + self.slip(outer.gradient(along, self.w))))


class Penalized(Plain):
    """A penalty on the gradient by its inputs and by its weights."""

    def call(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.tanh(tf.matmul(x, self.w))
            energy = tf.reduce_sum(tf.square(y))
        by_x, by_w = tape.gradient(energy, [x, self.w])
        self.add_loss(
            self.slip(tf.reduce_mean(tf.square(by_x)) + 0.1 * tf.reduce_mean(tf.square(by_w)))
        )
        return y


class Newton(Plain):
    """Solves z + tanh(w z) = x for z by a few steps whose slopes a tape computes."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def residual(self, z, x):
        return z + tf.tanh(self.w * z) - x

    def solution(self, x):
        z = x / 2
        for _ in range(5):
            with tf.GradientTape() as tape:
                tape.watch(z)
                residual = self.residual(z, x)
            z -= residual / tape.gradient(residual, z)
        return z

    def call(self, x):
        return self.slip(self.solution(x))


class Implicit(Newton):
    """The same, with the gradient of the solution by the implicit function theorem."""

    def call(self, x):
        @tf.custom_gradient
        def solution(x):
            z = self.solution(x)

            def grad(dz, variables=None):
                with tf.GradientTape(persistent=True) as tape:
                    tape.watch(z)
                    residual = self.residual(z, x)
                dx = dz / tape.gradient(residual, z)
                [dw] = tape.gradient(residual, variables, -dx)
                return dx, [self.factor * dw]

            return z, grad

        return solution(x)


def held(name, layer, wrong=UP_TO_W, **options):
    """A kind that is a layer."""
    return Kind(name, around(layer), wrong=wrong, layer=layer, **options)


CAPTURED = [
    held("recompute_grad", Recomputed),
    held("recompute_grad of two layers", RecomputedTogether),
    held("recompute_grad in tf.function", RecomputedInFunction, functions=method("call")),
    held("custom_gradient", ByHand, ("middle/w",)),
    held(
        "custom_gradient of two by name",
        TwoByHand,
        ("middle/b",),
        impossible={"eager": "TensorFlow sorts the variables in graphs alone"},
    ),
    held("custom_gradient of two by identity", TwoByIdentity, ("middle/b",)),
    held("custom_gradient of two by shape", TwoByShape, ("middle/b",)),
    held("inner step", InnerStep),
    held("inner step in tf.function", InnerStepInFunction, functions=method("call")),
    held("inner step of watched", InnerStepOfWatched),
    held("inner steps in while_loop", InnerStepsInLoop),
    held("second derivatives", Curved),
    # What a layer adds to the loss is not in its outputs, so that there is nothing to see in it
    # alone.
    dataclasses.replace(held("gradient penalty", Penalized), layer=None),
    held("Newton", Newton),
    held("implicit", Implicit, ("middle/w",)),
]


# Training with checks and without.


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left behind: `left` must not depend on checks."""

    left: dict
    reports: list


def trained(kind, mode, loop, size, is_checked):
    """Trains a network by one of `LOOPS` at one of `SIZES`, with checks before steps or without."""
    model, reports = kind.healthy(mode), []
    x, y = data()

    def check():
        before = traces(kind, model)
        reports.append(gradhooks.check_gradients(model, x, y, samples=4))
        assert traces(kind, model) == before

    history = LOOPS[loop](kind, model, SIZES[size], check if is_checked else None, reports)
    left = {"history": history, "traces": traces(kind, model), **digest.digest(model)}
    return Trained({**left, "outputs": keras.ops.convert_to_numpy(model(x)).tolist()}, reports)


def traces(kind, model):
    """What the user's functions have traced: how often, for which inputs, over which variables."""
    found = []
    for f in kind.functions(model):
        concrete = (
            f._list_all_concrete_functions()
        )  # traces for a signature that has not been used yet
        found.append((f.experimental_get_tracing_count(), sorted(map(_trace, concrete))))
    return found


def _trace(concrete):
    inputs = [(i.dtype.name, str(i.shape)) for i in concrete.inputs]
    return inputs, sorted(v.name for v in concrete.variables)


def _by_fit(kind, model, rows, check, reports):
    x, y = data()
    # Batches of one fixed size are what a check's own batch is like; others leave the number of
    # rows open.
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(rows, drop_remainder=rows == ROWS)
    callbacks = []
    if check:
        callback = gradhooks.GradientCheck(x, y, freq=1, samples=4, on_failure="ignore")
        callbacks = [TraceRecorder(kind), callback, TraceRecorder(kind)]
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
    if check:
        reports += callback.reports
        assert len(reports) == 2 * math.ceil(ROWS / rows) + 1  # before every batch and at the end
        assert callbacks[0].noted == callbacks[2].noted
    return {key: values for key, values in history.items() if key not in OWN_KEYS}


class TraceRecorder(keras.callbacks.Callback):
    """Notes what has been traced whenever a check may be made, before it or after it."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.noted = kind, []

    def on_epoch_begin(self, epoch, logs=None):
        self.noted.append(traces(self.kind, self.model))

    def on_train_batch_begin(self, batch, logs=None):
        self.noted.append(traces(self.kind, self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.noted.append(traces(self.kind, self.model))


def _by_train_on_batch(kind, model, rows, check, reports):
    return _stepwise(model.train_on_batch, rows, check)


def _by_own_loop(kind, model, rows, check, reports):
    def step(x, y):
        if kind.steps_itself:
            return model.train_step((x, y))["loss"]
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        model.optimizer.apply(
            tape.gradient(loss, model.trainable_variables), model.trainable_variables
        )
        return loss

    compiled = step if model.run_eagerly else tf.function(step, jit_compile=model.jit_compile)
    return _stepwise(lambda x, y: float(compiled(tf.constant(x), tf.constant(y))), rows, check)


def _stepwise(step, rows, check):
    x, y = data()
    history = []
    for start in [*range(0, ROWS, rows), 0]:
        if check:
            check()
        history.append(step(x[start : start + rows], y[start : start + rows]))
    return history


LOOPS = {"fit": _by_fit, "train_on_batch": _by_train_on_batch, "own": _by_own_loop}
SIZES = {"fixed": ROWS, "varying": 6}


def crossed(kinds, *others):
    """Every kind with every mode, and with all of each other table, as parameters of a test.

    One combination of each kind is run by default, a different one for each; a few more belong
    to the whole runs, and all of them to the sweep.
    """
    whole, sweep = [pytest.mark.system], [pytest.mark.system, pytest.mark.sweep]
    parameters = []
    for i, kind in enumerate(kinds):
        possible = [
            c
            for c in itertools.product(variants.MODES, *others)
            if c[0].name not in kind.impossible
        ]
        for k, combination in enumerate(possible):
            marks = whole if k % 9 == i % 9 else sweep
            marks = [] if combination == possible[7 * i % len(possible)] else marks
            name = "-".join(map(str, (kind, *combination)))
            parameters.append(pytest.param(kind, *combination, marks=marks, id=name))
    return parameters


# What must hold.


def assert_untouched(kind, mode, loop, size):
    """Asserts that a training with checks is the training without, and that each check passes."""
    plain = trained(kind, mode, loop, size, is_checked=False)
    checked = trained(kind, mode, loop, size, is_checked=True)
    assert checked.left == plain.left
    for report in checked.reports:
        assert_passed(report)


def assert_passed(report):
    """Asserts that everything passes in float64, also what the optimizer receives."""
    assert report.verdict is gradhooks.Verdict.PASS, report
    assert report.precision.level == "float64"
    recorded = [c for c in report.comparisons if c.term == "trained"]
    assert {c.verdict for c in recorded} == {gradhooks.Verdict.PASS}


def assert_caught(kind, report):
    """Asserts that a mutant fails where it is wrong and nowhere else, for the right reason."""
    if not kind.wrong:
        assert_passed(report)
        return
    assert report.verdict is gradhooks.Verdict.FAIL, report
    assert report.precision.level == "float64"
    assert {c.reason for c in report.failures} == {
        Reason.UNTRAINED if kind.steps_itself else Reason.MISMATCH
    }
    failed = {c.path for c in report.failures if c.path != "*"}
    assert not [path for path in failed if not path.endswith(kind.wrong)]
    assert [path for path in failed if path.endswith(kind.wrong[-1])]
    assert report.diagnoses[0].path.endswith(kind.wrong)
