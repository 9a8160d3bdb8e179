"""The same training with a hand-written layer whose gradient lacks a term.

gradhooks warns and names it.

python examples/find_the_bug.py
"""

import pathlib
import tempfile
import warnings

import keras
import tensorflow as tf
from digits import digits
from keras import layers

import gradhooks


@tf.custom_gradient
def scaled(x, scale):
    """`x * scale` for a scale per unit, with a gradient that somebody wrote by hand."""

    def gradient(upstream):
        # The mean over the batch should be a sum: the gradient of `scale` is 1/32 of what it should
        # be.
        return upstream * scale, tf.reduce_mean(upstream * x, axis=0)

    return x * scale, gradient


class Scale(layers.Layer):
    """Learns one factor per unit."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return scaled(x, self.factor)


def main():
    keras.utils.set_random_seed(0)
    x, y = digits()
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(64, "relu", name="hidden"),
            Scale(name="scale"),
            layers.Dense(10, name="head"),
        ],
        name="digits",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    log_dir = pathlib.Path(tempfile.gettempdir(), "gradhooks-find-the-bug")
    check = gradhooks.GradientCheck(x, y, log_dir=log_dir)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", gradhooks.GradientMismatchWarning)
        # The network learns all the same, only worse: no training curve shows the error.
        model.fit(x, y, epochs=3, verbose=2, callbacks=[check])
    for warning in caught:
        if issubclass(warning.category, gradhooks.GradientMismatchWarning):
            print(f"\n{warning.category.__name__}: {warning.message}")
    print()
    print(check.reports[0])
    print(f"\nThe error is made in: {check.reports[0].culprit.path}")
    print(f"See it in TensorBoard:\n  tensorboard --logdir {log_dir}")


if __name__ == "__main__":
    main()
