"""`keras.remat` around dropout on TensorFlow.

The loss is right, the gradient belongs to another dropout mask.

Seen with Keras 3.15.1 and TensorFlow 2.21. Rematerialization saves memory: it
throws activations away and recomputes them on the way back. The recomputation
draws from the seed generator once more, and so drops other units than the
forward pass did. Training goes on without a warning.

python examples/remat_dropout.py
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import gradhooks


class Block(layers.Layer):
    """A dense layer with dropout, rematerialized or not."""

    def __init__(self, is_rematerialized, **options):
        super().__init__(**options)
        self.is_rematerialized = is_rematerialized
        self.seeds = keras.random.SeedGenerator(7)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 32), name="kernel")

    def call(self, x):
        def activate(h):
            return keras.random.dropout(ops.tanh(h), 0.5, seed=self.seeds)

        return (keras.remat(activate) if self.is_rematerialized else activate)(x @ self.kernel)


def network(is_rematerialized):
    """Returns a compiled network; the same weights and masks whatever the argument."""
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((10,)),
        Block(is_rematerialized, name="block"),
        layers.Dense(1, name="head"),
    ]
    model = keras.Sequential(stack, name="network")
    model.compile("sgd", "mse")
    return model


def first_step(is_rematerialized, x, y):
    """Returns loss and kernel gradient of the first step, by plain TensorFlow."""
    model = network(is_rematerialized)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    return float(loss), tape.gradient(loss, model.get_layer("block").kernel.value).numpy()


def main():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 10)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")
    (loss, gradient), (same_loss, other_gradient) = first_step(False, x, y), first_step(True, x, y)
    off = float(np.linalg.norm(other_gradient - gradient) / np.linalg.norm(gradient))
    print(f"Keras {keras.__version__}, TensorFlow {tf.__version__}")
    print(f"loss without and with keras.remat: {loss:.6f} and {same_loss:.6f}")
    print(f"gradient with keras.remat: off by {off:.0%} of its size\n")
    report = gradhooks.check_gradients(network(True), x, y)
    if report.verdict is gradhooks.Verdict.FAIL:
        print(gradhooks.GradientMismatchError(report))
    if off < 1e-3:
        print(
            "\nThis version of Keras recomputes with the mask of the forward pass: "
            "the defect is gone."
        )


if __name__ == "__main__":
    main()
