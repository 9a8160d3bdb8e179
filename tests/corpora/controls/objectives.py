"""Losses: all of Keras, and huge, tiny, constant, weighted, added and hand-written ones."""

import keras
import numpy as np
from keras import layers, ops

from tests.corpora.controls.building import around, dense
from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential
from tests.corpora.mutants import planted


def _real(rng):
    return features(rng, 16, 4)


def _positive(rng):
    return np.exp(0.5 * features(rng, 16, 4))


def _signs(rng):
    return np.sign(features(rng, 16, 4))


def _bits(rng):
    return (features(rng, 16, 4) > 0).astype("float32")


def _one_hot(rng):
    return keras.utils.to_categorical(integers(rng, 4, 16), 4)


def _shares(rng):
    powers = np.exp(features(rng, 16, 4))
    return powers / powers.sum(axis=1, keepdims=True)


def _classes(rng):
    return integers(rng, 4, 16)


LOSSES = {
    "mean_squared_error": (None, _real),
    "mean_absolute_error": (None, _real),
    "mean_absolute_percentage_error": (None, _positive),
    "mean_squared_logarithmic_error": ("softplus", _positive),
    "cosine_similarity": (None, _real),
    "huber": (None, _real),
    "log_cosh": (None, _real),
    "hinge": (None, _signs),
    "squared_hinge": (None, _signs),
    "categorical_hinge": (None, _one_hot),
    "kl_divergence": ("softmax", _shares),
    "poisson": ("softplus", _positive),
    "binary_crossentropy": ("sigmoid", _bits),
    "binary_focal_crossentropy": ("sigmoid", _bits),
    "categorical_crossentropy": ("softmax", _one_hot),
    "categorical_focal_crossentropy": ("softmax", _one_hot),
    "sparse_categorical_crossentropy": ("softmax", _classes),
    "dice": ("sigmoid", _bits),
    "tversky": ("sigmoid", _bits),
}


def under(loss, activation, targets, output=1.0):
    """A small network under a loss; `output` scales its predictions and targets."""

    def build(seed):
        rng = seeded(seed)
        model = sequential(
            (6,),
            layers.Dense(10, activation="tanh", name="below"),
            layers.Dense(4, activation=activation, name="head"),
            layers.Rescaling(output),
            loss=loss,
        )
        return (
            model,
            features(rng, 16, 6),
            np.asarray(output * targets(rng), "float32") if output != 1 else targets(rng),
        )

    return build


def circle(seed):
    """Circle loss compares the embeddings of a batch with each other."""
    rng = seeded(seed)
    model = sequential(
        (6,), layers.Dense(5, name="below"), layers.UnitNormalization(), loss=keras.losses.Circle()
    )
    return model, features(rng, 16, 6), integers(rng, 4, 16)


def connectionist(seed):
    """CTC: a sum over alignments, computed in float32 inside."""
    rng = seeded(seed)
    model = sequential(
        (8, 4),
        layers.LSTM(6, return_sequences=True, name="lstm"),
        layers.Dense(5, name="head"),
        loss=keras.losses.CTC(),
    )
    return model, features(rng, 8, 8, 4), 1 + integers(rng, 4, 8, 3)


class _Quantile(keras.losses.Loss):
    """A custom loss object with a kink."""

    def __init__(self, share):
        super().__init__(name="quantile")
        self.share = share

    def call(self, y_true, y_pred):
        error = ops.cast(y_true, y_pred.dtype) - y_pred
        return ops.mean(ops.maximum(self.share * error, (self.share - 1) * error), axis=-1)


def _summed(y_true, y_pred):
    return ops.sum(ops.square(y_true - y_pred), axis=-1)


def _constant(y_true, y_pred):
    return 3.0 + 0.0 * ops.sum(y_pred, axis=-1)


def _right_custom_gradient(y_true, y_pred):
    """Softplus with its own gradient, which is right."""
    softplus = planted.with_gradient(ops.softplus, lambda upstream, x: upstream * ops.sigmoid(x))
    return ops.mean(softplus(-ops.cast(y_true, y_pred.dtype) * y_pred), axis=-1)


class _OnlyAdded(layers.Layer):
    """Reconstructs its input from a code and adds the error as a loss."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encode = layers.Dense(3, activation="tanh", name="encode")
        self.decode = layers.Dense(6, name="decode")

    def call(self, x):
        restored = self.decode(self.encode(x))
        self.add_loss(ops.mean(ops.square(restored - x)))
        return restored


def added_only(seed):
    """No loss in compile(): everything comes from add_loss."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    return compiled(keras.Model(x, _OnlyAdded(name="coder")(x)), None), features(rng, 16, 6), None


def added_too(seed):
    """A loss and an added loss a million times smaller."""

    class Small(layers.Layer):
        def call(self, x):
            self.add_loss(1e-6 * ops.sum(ops.square(x)))
            return x

    return around(seed, (6,), dense(), lambda: Small(name="small"), dense())


def weighted(seed):
    """Sample weights, some of them zero."""
    model, x, y = around(seed, (6,), dense(), batch=16)
    weights = np.linspace(0, 2, 16).astype("float32")
    weights[5] = 0
    return model, x, y, weights


def weighted_steps(seed):
    """One weight per time step."""
    rng = seeded(seed)
    model = sequential(
        (5, 3), layers.GRU(6, return_sequences=True, name="gru"), layers.Dense(2, name="head")
    )
    weights = (rng.random((8, 5)) > 0.3).astype("float32")
    return model, features(rng, 8, 5, 3), features(rng, 8, 5, 2), weights


class _OwnLoss(keras.Model):
    """Overrides compute_loss, with a penalty of its own on the predictions."""

    def __init__(self):
        super().__init__(name="own")
        self.below = layers.Dense(8, activation="tanh", name="below")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.below(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.1 * ops.mean(ops.logsumexp(y_pred, axis=-1))


def own_compute_loss(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(_OwnLoss())
    model(x)
    return model, x, features(rng, 16, 2)


def metrics(seed):
    """Metrics with state, weighted and not, and one that takes an argmax."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(8, activation="tanh"),
        layers.Dense(3, activation="softmax", name="head"),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        weighted_metrics=["accuracy"],
    )
    return model, features(rng, 16, 6), integers(rng, 3, 16)


CASES = [
    *(
        Case(f"loss_{name}", under(name, activation, targets))
        for name, (activation, targets) in LOSSES.items()
    ),
    Case(
        "loss_generalized_cross_entropy",
        under(keras.losses.CategoricalGeneralizedCrossEntropy(), "softmax", _classes),
    ),
    Case("loss_circle", circle),
    Case("loss_ctc", connectionist, note="float32 inside"),
    Case("loss_quantile", under(_Quantile(0.8), None, _real), note="a custom Loss object"),
    Case("loss_function", under(_summed, None, _real)),
    Case("loss_with_a_right_custom_gradient", under(_right_custom_gradient, None, _signs)),
    Case("huge_loss", under("mse", None, _real, 1e6), note="a loss of 1e12"),
    Case("tiny_loss", under("mse", None, _real, 1e-6), note="a loss of 1e-12"),
    Case(
        "constant_loss", under(_constant, None, _real), note="no gradient anywhere, and rightly so"
    ),
    Case("loss_only_added", added_only, note="loss=None, add_loss only"),
    Case("loss_added_faintly", added_too),
    Case("sample_weight", weighted),
    Case("sample_weight_per_step", weighted_steps),
    Case("own_compute_loss", own_compute_loss),
    Case("stateful_metrics", metrics),
]
