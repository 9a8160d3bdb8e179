"""Kinds of models that people train.

With a check before every batch every bit stays, and no right gradient fails.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from tests import models, needs
from tests.models import VAE, compiled, data
from tests.runs import training
from tests.runs.training import PASS, check_of, small
from tests.test_bit_identity import FIRST_CHECK_OF_UNBUILT, unbuilt

pytestmark = pytest.mark.system

WORDS = np.array(["red", "green", "blue", "black", "white"])


def functional():
    keras.utils.set_random_seed(0)
    x = layers.Input((4,))
    a = layers.Dense(4, "tanh")(x)
    return compiled(keras.Model(x, layers.Dense(1)(layers.Add()([a, layers.Dense(4)(a)])))), *data(
        (4,), (1,), 0
    )


def nested():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, "tanh", kernel_regularizer="l2"), layers.Dropout(0.2)]
    )
    x = layers.Input((4,))
    outer = keras.Model(x, layers.Dense(1)(inner(x)), name="outer")
    return compiled(keras.Sequential([layers.Input((4,)), outer])), *data((4,), (1,), 0)


def shared():
    keras.utils.set_random_seed(0)
    left, right, tower = layers.Input((4,)), layers.Input((4,)), layers.Dense(3, "tanh")
    both = layers.Concatenate()([tower(left), tower(right)])
    x, y = data((4,), (1,), 0)
    return compiled(keras.Model([left, right], layers.Dense(1)(both))), [x, x[::-1].copy()], y


def tokens(length=6, vocabulary=9):
    """Rows of tokens that end in padding."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, vocabulary, (models.ROWS, length))
    x[np.arange(length) >= rng.integers(2, length + 1, (models.ROWS, 1))] = 0
    return x, rng.normal(size=(models.ROWS, 1)).astype("float32")


def masked():
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((6,), dtype="int32"),
        layers.Embedding(9, 3, mask_zero=True),
        layers.LSTM(3),
        layers.Dense(1),
    ]
    return compiled(keras.Sequential(stack)), *tokens()


def masked_time_steps():
    keras.utils.set_random_seed(0)
    x, y = data((5, 2), (1,), 0)
    x[:, 3:] = 0.0
    stack = [layers.Input((5, 2)), layers.Masking(), layers.GRU(3), layers.Dense(1)]
    return compiled(keras.Sequential(stack)), x, y


class Mean(layers.Layer):
    """The mean over the time steps that each row has."""

    def call(self, x):
        import tensorflow as tf

        return tf.reduce_mean(x, axis=1)


def ragged():
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    x, y = tokens()
    stack = [
        layers.Input((None,), dtype="int32", ragged=True),
        layers.Embedding(9, 3),
        Mean(),
        layers.Dense(1),
    ]
    return compiled(keras.Sequential(stack)), tf.RaggedTensor.from_tensor(x, padding=0), y


def stateful():
    keras.utils.set_random_seed(0)
    stack = [layers.Input(batch_shape=(32, 5, 2)), layers.LSTM(3, stateful=True), layers.Dense(1)]
    return compiled(keras.Sequential(stack)), *data((5, 2), (1,), 0)


def sparse_gradients():
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((6,), dtype="int32"),
        layers.Embedding(30, 3),
        layers.Flatten(),
        layers.Dense(1),
    ]
    return compiled(
        keras.Sequential(stack), optimizer=keras.optimizers.Adam(clipnorm=1.0)
    ), *tokens()


def strings():
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    lookup = layers.StringLookup(vocabulary=list(WORDS))
    x = layers.Input((3,), dtype="string")
    hidden = layers.Flatten()(layers.Embedding(lookup.vocabulary_size(), 2)(lookup(x)))
    rng = np.random.default_rng(0)
    y = rng.normal(size=(models.ROWS, 1)).astype("float32")
    return (
        compiled(keras.Model(x, layers.Dense(1)(hidden))),
        tf.constant(rng.choice(WORDS, (models.ROWS, 3))),
        y,
    )


def sentences():
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    vectorize = layers.TextVectorization(output_sequence_length=4, vocabulary=list(WORDS))
    rng = np.random.default_rng(0)
    x = tf.constant([[" ".join(rng.choice(WORDS, 3))] for _ in range(models.ROWS)])
    stack = [
        layers.Input((1,), dtype="string"),
        vectorize,
        layers.Embedding(9, 2),
        layers.Flatten(),
        layers.Dense(1),
    ]
    return compiled(keras.Sequential(stack)), x, rng.normal(size=(models.ROWS, 1)).astype("float32")


def integers():
    keras.utils.set_random_seed(0)
    lookup = layers.IntegerLookup(vocabulary=[10, 20, 30], output_mode="one_hot")
    x = layers.Input((1,), dtype="int64")
    rng = np.random.default_rng(0)
    y = rng.normal(size=(models.ROWS, 1)).astype("float32")
    return (
        compiled(keras.Model(x, layers.Dense(1)(lookup(x)))),
        rng.choice([10, 20, 30, 40], (models.ROWS, 1)),
        y,
    )


class OwnLoss(keras.Model):
    """Computes its loss by itself."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(1, kernel_regularizer="l2")

    def call(self, x):
        return self.head(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.log(ops.cosh(y - y_pred))) + sum(self.losses)


def own_compute_loss():
    keras.utils.set_random_seed(0)
    model, (x, y) = compiled(OwnLoss(), None), data((4,), (1,), 0)
    model(x)
    return model, x, y


class Quantile(keras.losses.Loss):
    """A loss of the user's own."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.softplus(3 * (y_true - y_pred)) + 0.2 * (y_pred - y_true), axis=-1)


def own_loss_class():
    model, x, y = small()
    return compiled(model, Quantile(name="quantile")), x, y


class OnlyAdded(VAE):
    """Has no compiled loss at all."""

    def call(self, x):
        decoded = super().call(x)
        self.add_loss(ops.mean(ops.square(decoded - x)))
        return decoded


def only_added_losses():
    keras.utils.set_random_seed(0)
    x, _ = data((10,), 2, 0)
    model = compiled(OnlyAdded(), None)
    model(x)
    return model, x, None


def quantized_with_lora():
    keras.utils.set_random_seed(0)
    frozen = layers.Dense(6, name="quantized")
    model = keras.Sequential([layers.Input((4,)), layers.Dense(4, "tanh"), frozen, layers.Dense(1)])
    frozen.quantize("int8")
    frozen.enable_lora(2)
    # The second factor begins at zero, where the first has no gradient yet.
    frozen.lora_kernel_b.assign(np.random.default_rng(0).normal(size=frozen.lora_kernel_b.shape))
    return compiled(model), *data((4,), (1,), 0)


KINDS = {
    "Sequential": small,
    "Functional": functional,
    "subclassed, unbuilt": unbuilt,
    "nested": nested,
    "shared layers": shared,
    "dicts of inputs and outputs": models.two_in_two_out,
    "masked tokens": masked,
    "masked time steps": masked_time_steps,
    "ragged": ragged,
    "stateful": stateful,
    "sparse gradients": sparse_gradients,
    "strings": strings,
    "sentences": sentences,
    "integers": integers,
    "compute_loss": own_compute_loss,
    "Loss class": own_loss_class,
    "add_loss alone": only_added_losses,
}


# Ragged tensors and strings, which no other framework has, and tables to look numbers up in.
OF_TENSORFLOW = ("ragged", "strings", "sentences", "integers")


@pytest.mark.parametrize(
    "kind", needs.cases_of_tensorflow(KINDS, *OF_TENSORFLOW, what="ragged tensors, strings, tables")
)
def test_kind(kind):
    checked = training.with_and_without(KINDS[kind])
    assert checked.error is None
    first = FIRST_CHECK_OF_UNBUILT if kind == "subclassed, unbuilt" else 0
    assert [r.step for r in checked.reports] == list(range(first, 5))
    assert checked.verdicts == {PASS}, checked.reports[-1]
    assert not checked.complaints


@needs.tensorflow("ragged tensors")
@pytest.mark.parametrize("is_dataset", [False, True], ids=["tensor", "dataset"])
def test_ragged_rows_are_not_filled_up(is_dataset):
    import tensorflow as tf

    model, x, y = ragged()
    data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(32),) if is_dataset else (x, y)
    report = gradhooks.check_gradients(model, *data, samples=4)
    assert report.verdict is PASS
    residuals = model(x[:32]).numpy() - y[:32], model(x[:32].to_tensor()).numpy() - y[:32]
    loss, of_filled_rows = (float(np.mean(np.square(r))) for r in residuals)
    assert report.loss["total"] == pytest.approx(loss, rel=1e-5)
    assert abs(loss - of_filled_rows) > 1e-3


@pytest.mark.parametrize(
    ("expect", "reason"),
    [({}, gradhooks.Reason.KNOWN), ({"*/dense/*": "mismatch"}, gradhooks.Reason.DECLARED)],
    ids=["", "declared"],
)
def test_quantized_and_frozen_with_trainable_parts_around(expect, reason):
    """Rounding to int8 has a straight-through gradient: known, and it may be declared as well."""
    checked = training.with_and_without(
        quantized_with_lora, lambda x, y: check_of(x, y, expect=expect)
    )
    paths = {c.path.split("/")[-1] for r in checked.reports for c in r.comparisons}
    assert {"lora_kernel_a", "lora_kernel_b"} <= paths
    assert checked.verdicts == {PASS}, checked.reports[-1]
    assert reason in {c.reason for r in checked.reports for c in r.comparisons}
    assert not any(r.diagnoses for r in checked.reports)


WEIGHTS = np.random.default_rng(2).uniform(0.1, 3.0, models.ROWS).astype("float32")


def classifier():
    keras.utils.set_random_seed(0)
    stack = [layers.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3, "softmax")]
    return compiled(keras.Sequential(stack), "sparse_categorical_crossentropy"), *data((4,), 3, 0)


@pytest.mark.parametrize(
    "weights", [{"sample_weight": WEIGHTS}, {"class_weight": {0: 1.0, 1: 2.0, 2: 5.0}}], ids=list
)
def test_weighted(weights):
    checked = training.with_and_without(
        classifier, lambda x, y: check_of(x, y, **weights), shuffle=False, **weights
    )
    assert checked.verdicts == {PASS}
    assert not checked.complaints
    # The weights count: the loss is that of the first batch as it is trained on.
    plain = training.run(classifier, check_of, shuffle=False)
    assert checked.reports[0].loss["total"] != plain.reports[0].loss["total"]


@pytest.mark.parametrize(
    "kind", needs.cases_of_tensorflow(("nested", "strings"), "strings", what="strings")
)
def test_loaded_from_a_file(tmp_path, kind):
    path = tmp_path / "model.keras"

    def loaded():
        model, x, y = KINDS[kind]()
        model.fit(x, y, verbose=0)
        model.save(path)
        return keras.models.load_model(path), x, y

    checked = training.with_and_without(loaded)
    assert checked.error is None
    assert checked.reports[0].step == 2
    assert checked.verdicts == {PASS}
    assert not checked.complaints
