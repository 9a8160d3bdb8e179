"""The nodes and edges of one graph have no common batch: arrays are taken as they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Verdict
from gradhooks.testing import assert_gradients
from tests import digest
from tests.corpora.mutants import planted
from tests.test_bit_identity import MODES, seeded

rng = np.random.default_rng(7)
N, E, GRAPHS = 40, 70, 3  # more nodes than a batch has rows by default
NODES = rng.normal(size=(N, 3)).astype("float32")
EDGES = rng.integers(0, N, size=(2, E)).astype("int32")
WEIGHTS = rng.normal(size=(E, 1)).astype("float32")
MEMBERSHIP = np.sort(rng.integers(0, GRAPHS, N)).astype("int32")
ADJACENCY = np.zeros((N, N), "float32")
ADJACENCY[EDGES[0], EDGES[1]] = 0.3
TARGETS = rng.normal(size=(N, 2)).astype("float32")
OF_GRAPHS = rng.normal(size=(GRAPHS, 2)).astype("float32")


class Convolution(layers.Layer):
    """What a graph layer has: one kernel, and a place for a defect."""

    def __init__(self, at, **options):
        super().__init__(**options)
        self.at = at

    def build(self, shapes):
        self.kernel = self.add_weight(shape=(shapes[0][-1], 2), name="kernel")

    def transformed(self, nodes):
        return self.at(ops.matmul(nodes, self.kernel))


class Messages(Convolution):
    """Sums messages along edges."""

    def call(self, inputs):
        nodes, edges, weights = inputs
        sent = ops.take(self.transformed(nodes), edges[0], axis=0) * weights
        return ops.tanh(ops.segment_sum(sent, edges[1], num_segments=N))


class Adjacent(Convolution):
    """Multiplies by the matrix of all edges."""

    def call(self, inputs):
        nodes, adjacency = inputs
        return ops.tanh(ops.matmul(adjacency, self.transformed(nodes)))


class Pooled(Convolution):
    """One row of results for each of several graphs in one."""

    def call(self, inputs):
        nodes, membership = inputs
        return ops.tanh(ops.segment_sum(self.transformed(nodes), membership, num_segments=GRAPHS))


class Attending(Convolution):
    """Weighs edges by what they join, normalized over all edges to a node."""

    def call(self, inputs):
        nodes, edges = inputs
        hidden = self.transformed(nodes)
        ends = ops.take(hidden, edges[0], axis=0), ops.take(hidden, edges[1], axis=0)
        scores = ops.exp(ops.sum(ends[0] * ends[1], axis=-1, keepdims=True) / 3)
        total = ops.segment_sum(scores, edges[1], num_segments=N) + 1
        return ops.segment_sum(scores * ends[0], edges[1], num_segments=N) / total


CASES = {
    "segment sums": (Messages, [NODES, EDGES, WEIGHTS], TARGETS),
    "an adjacency matrix": (Adjacent, [NODES, ADJACENCY], TARGETS),
    "several graphs in one": (Pooled, [NODES, MEMBERSHIP], OF_GRAPHS),
    "attention over edges": (Attending, [NODES, EDGES], TARGETS),
}


class Network(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, layers.Dense(2, name="head")

    def call(self, inputs):
        return self.head(self.layer(inputs))


def network(case, at=planted.honest, **options):
    kind, x, _ = CASES[case]
    keras.utils.set_random_seed(1)
    model = Network(kind(at, name="convolution"))
    model.compile("sgd", "mse", **options)
    model([ops.convert_to_tensor(a) for a in x])
    return model


@pytest.mark.parametrize("case", CASES)
def test_layers(case):
    kind, x, _ = CASES[case]
    report = assert_gradients(kind(planted.honest), x, batch_size=None)
    floats = sum(a.dtype.kind == "f" for a in x)
    assert report.coverage.variables == 1 + floats
    with pytest.raises(AssertionError, match=r"1\.01"):
        assert_gradients(kind(planted.scale(1.01)), x, batch_size=None)


@pytest.mark.parametrize("case", CASES)
def test_models(case):
    _, x, y = CASES[case]
    report = gradhooks.check_gradients(network(case), x, y, batch_size=None, samples=8)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64"), report
    assert np.isfinite(report.relative_difference["trained"])
    wrong = gradhooks.check_gradients(
        network(case, planted.scale(1.01)), x, y, batch_size=None, samples=8
    )
    assert wrong.verdict is Verdict.FAIL, wrong
    assert {c.path.rsplit("/", 2)[-2] for c in wrong.failures if c.index is not None} == {
        "convolution"
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_training_on_one_graph_is_the_same_with_checks(case, mode):
    _, x, y = CASES[case]
    data = tf.data.Dataset.from_tensors((tuple(x), y)).repeat(2)

    def trained(callbacks):
        model = seeded(lambda: network(case, **MODES[mode]))
        fit = model.fit(data, epochs=2, verbose=0, callbacks=callbacks)
        return digest.digest(model), fit.history["loss"]

    checks = [gradhooks.GradientCheck(x, y, batch_size=None, samples=4, on_failure="raise")]
    assert trained(checks) == trained([])
    assert [r.verdict for r in checks[0].reports] == [Verdict.PASS] * 3


def test_a_dataset_gives_its_first_graph():
    _, x, y = CASES["segment sums"]
    data = tf.data.Dataset.from_tensors((tuple(x), y))
    report = gradhooks.check_gradients(network("segment sums"), data, batch_size=None, samples=8)
    assert report.verdict is Verdict.PASS, report
    whole = gradhooks.check_gradients(network("segment sums"), x, y, batch_size=None, samples=8)
    assert report.loss == whole.loss
    with pytest.raises(
        gradhooks.BadInputError, match="batch_size=None"
    ):  # and not some edges of some nodes
        gradhooks.check_gradients(network("segment sums"), data)


class Halved(Network):
    """Hands half of the gradient to the optimizer, in a step of its own."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        variables = self.trainable_variables
        gradients = [g / 2 for g in tape.gradient(loss, variables)]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"loss": loss}


def test_what_the_optimizer_receives_is_said_without_a_size_of_the_batch():
    kind, x, y = CASES["segment sums"]
    model = Halved(kind(planted.honest, name="convolution"))
    model.compile("sgd", "mse")
    model([ops.convert_to_tensor(a) for a in x])
    report = gradhooks.check_gradients(model, x, y, batch_size=None, samples=4)
    assert report.verdict is Verdict.FAIL
    assert all("0.5 times" in d.sentence for d in report.diagnoses), report


MIXED = {
    "arrays": lambda check: check([NODES, EDGES, WEIGHTS]),
    "a dict": lambda check: check({"nodes": NODES, "edges": EDGES}),
    "tensors": lambda check: check([tf.constant(NODES), tf.constant(EDGES)]),
}


@pytest.mark.parametrize("form", MIXED)
def test_the_message_says_what_to_do(form):
    for check in (
        lambda x: assert_gradients(layers.Identity(), x),
        lambda x: gradhooks.check_gradients(network("segment sums"), x, TARGETS),
        lambda x: network("segment sums").fit(
            NODES, TARGETS, verbose=0, callbacks=[gradhooks.GradientCheck(x)]
        ),
    ):
        with pytest.raises(gradhooks.BadInputError) as error:
            MIXED[form](check)
        said = str(error.value)
        assert "batch_size=None" in said
        assert "call=" in said
        assert f"lengths {N}, 2" in said or f"lengths 2, {N}" in said
        assert all(word in said for word in ("Received: ", "Expected ", "Try "))


def test_a_layer_with_several_arguments():
    class Two(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 2), name="kernel")

        def call(self, nodes, edges):
            return ops.take(ops.matmul(nodes, self.kernel), edges[0], axis=0)

    assert_gradients(
        Two(), [NODES, EDGES], call=lambda layer, x, training: layer(*x), batch_size=None
    )


def test_rows_of_one_length_are_all_taken():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    report = gradhooks.check_gradients(model, NODES, TARGETS, batch_size=None, samples=4)
    assert report.verdict is Verdict.PASS
    assert report.loss["total"] == pytest.approx(
        model.evaluate(NODES, TARGETS, verbose=0), rel=1e-6
    )
    weighted = gradhooks.check_gradients(
        model,
        NODES.astype("float64"),
        MEMBERSHIP[:, None],
        class_weight={0: 1.0, 1: 2.0, 2: 3.0},
        batch_size=None,
        samples=4,
    )
    same = gradhooks.check_gradients(
        model,
        NODES,
        MEMBERSHIP[:, None],
        class_weight={0: 1.0, 1: 2.0, 2: 3.0},
        batch_size=N,
        samples=4,
    )
    assert weighted.loss == same.loss
