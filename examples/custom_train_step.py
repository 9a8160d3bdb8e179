"""A hand-written `train_step` that forgets the weight penalties.

It trains, and gradhooks says what it forgot.

python examples/custom_train_step.py [--epochs 3]
"""

import argparse
import warnings

import keras
import tensorflow as tf
from digits import digits
from keras import layers

import gradhooks


class Forgetful(keras.Sequential):
    """Computes its own loss, as many guides show it. Keras' step would have added the penalties."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
            )
            # Forgotten: loss += sum(self.losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        # With "loss" alone Keras would show a tracker of its own, which this step never updates.
        return {"loss": loss, "crossentropy": loss}


def network(kind):
    """Returns a compiled network with L2 penalties; `kind` decides how it trains."""
    penalty = keras.regularizers.L2(1e-2)
    model = kind(
        [
            layers.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(64, "relu", kernel_regularizer=penalty, name="hidden"),
            layers.Dense(10, kernel_regularizer=penalty, name="head"),
        ],
        name="digits",
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    epochs = parser.parse_args().epochs
    x, y = digits()
    for kind in (keras.Sequential, Forgetful):
        keras.utils.set_random_seed(0)
        check = gradhooks.GradientCheck(x, y)
        with warnings.catch_warnings():
            # It is printed below.
            warnings.simplefilter("ignore", gradhooks.GradientMismatchWarning)
            network(kind).fit(x, y, epochs=epochs, verbose=2, callbacks=[check])
        report = check.reports[0]
        step = (
            "Keras' own train_step" if kind is keras.Sequential else "the hand-written train_step"
        )
        print(
            f"\n{step}: {report.verdict}, trained relative difference "
            f"{report.relative_difference['trained']:.1e}"
        )
        if report.verdict is gradhooks.Verdict.FAIL:
            print(gradhooks.GradientMismatchError(report))
        print()


if __name__ == "__main__":
    main()
