"""Models with a layer that gives other numbers in every evaluation: decided, or the layer named."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.model import batch, objective, oracle
from gradhooks.numerics.departure import Call, Summary
from gradhooks.numerics.jittering_layer import find_jittering_layer
from tests.corpora import corpus
from tests.corpora.mutants import planted


def shake(tensor, relative):
    """A tensor of which every evaluation differs, by Python code in the graph."""

    def draw(values):
        noise = np.random.default_rng().normal(size=values.shape)
        return (values * (1 + relative * noise)).astype(values.dtype)

    shaken = tf.numpy_function(draw, [tensor], tensor.dtype)
    shaken.set_shape(tensor.shape)
    return shaken


def shake_forwards(tensor, relative):
    @tf.custom_gradient
    def apply(inner):
        return shake(inner, relative), lambda upstream: upstream

    return apply(tensor)


def shake_backwards(tensor, relative):
    @tf.custom_gradient
    def apply(inner):
        return tf.identity(inner), lambda upstream: shake(upstream, relative)

    return apply(tensor)


# Compiled before any check, it stays as random as it is.
NORMAL = tf.function(lambda: tf.random.normal([])).get_concrete_function()


def shake_by_operation(tensor, relative):
    """The same by an operation of TensorFlow that no check can replace."""
    return tensor * (1 + relative * tf.cast(NORMAL(), tensor.dtype))


SHAKES = {"forwards": shake_forwards, "backwards": shake_backwards, "drawn": shake_by_operation}


class Jittering(keras.layers.Layer):
    def __init__(self, shake, relative, **options):
        super().__init__(**options)
        self._shake, self._relative = shake, relative

    def call(self, x):
        return self._shake(x, self._relative)


class Block(keras.layers.Layer):
    """A layer that holds the jittering one, and jitters itself where `inner` is None."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner
        self.dense = keras.layers.Dense(4, activation="tanh", name="dense")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        x = shake_forwards(x, 1e-6) if self.inner is None else self.inner(x)
        return self.dense(x)


def make_model(middle, factor=1.0):
    """A model and its batch; the gradient of the lowest kernel is `factor` times too large."""
    rng = corpus.seeded(0)

    def enlarge(upstream):
        return upstream * tf.cast(factor, upstream.dtype)

    model = corpus.sequential(
        (6,),
        planted.Dense(5, on_kernel=planted.identity(enlarge), activation="tanh", name="below"),
        middle,
        keras.layers.Dense(4, activation="tanh", name="above"),
        keras.layers.Dense(2, name="head"),
    )
    return model, corpus.features(rng, 8, 6), corpus.features(rng, 8, 2)


def check(name, relative, factor=1.0):
    layer = Jittering(SHAKES[name], relative, name="jittering")
    return gradhooks.check_gradients(*make_model(layer, factor), samples=8)


@pytest.mark.parametrize("relative", [1e-14, 1e-10])
@pytest.mark.parametrize("name", SHAKES)
def test_small_jitter_of_a_layer_hides_nothing(name, relative):
    report = check(name, relative)
    assert (report.verdict, report.threshold) == (Verdict.PASS, 1e-7), report
    assert (report.jitter > 0) == (name != "backwards")
    report = check(name, relative, 1.001)
    assert report.verdict is Verdict.FAIL, report
    assert report.diagnoses[0].path == "network/below/kernel"


@pytest.mark.parametrize("factor", [1.0, 1.001])
@pytest.mark.parametrize("name", SHAKES)
def test_a_layer_that_jitters_by_more_than_the_threshold_is_named(name, factor):
    report = check(name, 1e-6, factor)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC)
    assert "two evaluations begin to differ in layer network/jittering" in report.notes
    what = "gradient" if name == "backwards" else "loss"
    assert report.notes[0].startswith(f"the {what} changes between two evaluations")


def test_the_innermost_layer_is_named():
    block = Block(Jittering(shake_forwards, 1e-6, name="inner"), name="block")
    report = gradhooks.check_gradients(*make_model(block), samples=8)
    assert report.notes[-1] == "two evaluations begin to differ in layer network/block/inner"


def test_a_layer_that_jitters_between_its_inner_layers_is_named():
    report = gradhooks.check_gradients(*make_model(Block(None, name="block")), samples=8)
    assert report.notes[-1] == "two evaluations begin to differ in layer network/block"


def test_a_loss_that_jitters_by_itself_is_no_layer():
    model, x, y = make_model(keras.layers.Activation("tanh"))

    def loss(y, y_pred):
        return tf.reduce_mean(shake_forwards(tf.square(y - y_pred), 1e-5), -1)

    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
    report = gradhooks.check_gradients(model, x, y)
    assert report.reason is Reason.NOT_DETERMINISTIC
    assert not any("begin to differ" in note for note in report.notes)


def test_a_model_that_repeats_has_no_such_layer_and_stays_as_it_is():
    model, x, y = make_model(keras.layers.Dropout(0.5))
    before = [variable.numpy().copy() for variable in model.variables]
    state = np.random.get_state()[1].copy()
    asked = oracle.ModelOracle(objective.Objective(model), batch.take_batch(x, y))
    assert asked.first_jittering_layer(0.0) is None
    for value, variable in zip(before, model.variables, strict=True):
        assert np.array_equal(value, variable.numpy())
    assert np.array_equal(np.random.get_state()[1], state)


class Counting(keras.layers.Layer):
    """Draws from a generator that it keeps, and counts in Python and in a variable."""

    def build(self, shape):
        self.calls, self.seen = 0, []
        self.generator = np.random.default_rng(0)
        self.count = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def call(self, x):
        self.calls += 1
        self.count.assign_add(1.0)

        def draw(values):
            self.seen.append(1)
            noise = self.generator.normal(size=values.shape)
            return (values * (1 + 1e-5 * noise)).astype(values.dtype)

        drawn = tf.numpy_function(draw, [tf.stop_gradient(x)], x.dtype)
        return x + tf.reshape(drawn, tf.shape(x))


def test_observing_a_layer_leaves_what_its_code_keeps():
    model, x, y = make_model(Counting(name="counting"))
    layer = model.get_layer("counting")

    def kept():
        state = layer.generator.bit_generator.state["state"]
        return layer.calls, list(layer.seen), float(layer.count), state

    before = kept()
    report = gradhooks.check_gradients(model, x, y, samples=8)
    assert report.notes[-1] == "two evaluations begin to differ in layer network/counting", report
    assert kept() == before


def test_the_layers_are_observed_once():
    model, x, y = make_model(Jittering(shake_forwards, 1e-6, name="jittering"))
    asked = oracle.ModelOracle(objective.Objective(model), batch.take_batch(x, y))
    calls = []
    model.layers[0].call = lambda x, call=model.layers[0].call: calls.append(0) or call(x)
    assert asked.first_jittering_layer(1e-10) == "network/jittering"
    count = len(calls)
    assert asked.first_jittering_layer(1e-10) == "network/jittering"
    assert len(calls) == count


# --- What was recorded


def tensor(projection, size=1.0):
    return Summary(1.0, 1.0, size, 2.0 * size, projection)


def call(layer, entered, *, x=0.0, y=0.0, dx=0.0, dy=0.0, size=1.0):
    """A call with the projections of its input, its output, and of their slopes."""
    slopes = tensor(dx, size), tensor(dy, size)
    return Call(layer, entered, (tensor(x),), (tensor(y),), (slopes[0], None), (slopes[1],))


SAME = [call("below", 1), call("middle", 2), call("head", 3), call("model", 0)]


def changed(**by_layer):
    """`SAME` with other projections."""
    return [call(c.layer, c.entered, **by_layer.get(c.layer, {})) for c in SAME]


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        (SAME, ""),
        (changed(middle={"y": 1e-12}, head={"x": 1e-12, "y": 1e-11}, model={"y": 1e-11}), ""),
        (changed(middle={"y": 1e-6}, head={"x": 1e-6, "y": 1.0}, model={"y": 1.0}), "head"),
        (changed(middle={"y": 1e-6}, head={"x": 1e-6, "y": 1e-6}, model={"y": 1e-6}), "middle"),
        # Everything jitters in the last bits, and one layer more than that.
        (
            changed(
                below={"y": 1e-15},
                middle={"x": 1e-15, "y": 1e-6},
                head={"x": 1e-6, "y": 1e-6},
                model={"y": 1e-6},
            ),
            "middle",
        ),
        # Between the layers of the model.
        (changed(head={"x": 1e-6, "y": 1e-6}, model={"y": 1e-6}), "model"),
        # Only backwards.
        (
            changed(middle={"dx": 1e-6}, below={"dy": 1e-6, "dx": 1e-6}, model={"dx": 1e-6}),
            "middle",
        ),
        (changed(below={"dx": 1e-6}, model={"dx": 1e-6}), "below"),
    ],
)
def test_the_first_call_that_differs_is_found(again, expected):
    assert find_jittering_layer(SAME, again, 1e-10) == expected


def test_gradients_that_cancel_are_not_compared_with_themselves():
    small = {"size": 1e-17, "dx": 3e-17}
    one = changed(below={"size": 1e-17}, middle={})
    other = changed(below=small, middle={"dx": 1e-6})
    assert find_jittering_layer(one, other, 1e-10) == "middle"


def test_values_that_are_finite_at_times_differ():
    infinite = Call("middle", 2, (tensor(0.0),), (Summary(0.5, 1.0, 1.0, 2.0),), (), ())
    one = [call("below", 1), Call("middle", 2, (tensor(0.0),), (tensor(0.0),), (), ())]
    assert find_jittering_layer(one, [one[0], infinite], 1e-10) == "middle"
