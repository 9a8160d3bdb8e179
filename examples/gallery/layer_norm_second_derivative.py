"""A gradient penalty through `LayerNormalization` is trained with a wrong gradient.

python examples/gallery/layer_norm_second_derivative.py

`tf.nn.moments` takes the mean out of the variance by `stop_gradient`. For the first derivative that
makes no difference, as its comment says; for the second it does. Whatever differentiates twice is
hit: gradient penalties, physics-informed losses, Hessian-vector products.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import gradhooks


def gradient_penalty(model, x, y, sample_weight, training):
    """How far the norm of the gradient towards the inputs is from 1, as for Wasserstein GANs."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = ops.sum(model(x, training=training))
    slope = tape.gradient(output, x)
    return ops.mean((ops.sqrt(ops.sum(slope**2, axis=-1)) - 1) ** 2)


class OwnNormalization(keras.layers.Layer):
    """The same formula without `tf.nn.moments`."""

    def call(self, x):
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        return centered / ops.sqrt(ops.mean(centered**2, axis=-1, keepdims=True) + 1e-3)


def check(normalization):
    keras.utils.set_random_seed(0)
    critic = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "tanh"),
            normalization,
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(1),
        ],
        name="critic",
    )
    x = np.random.default_rng(0).normal(size=(16, 4))
    return gradhooks.check_gradients(critic, x, loss_fn=gradient_penalty, train_step=False)


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    report = check(keras.layers.LayerNormalization(name="norm"))
    worst = report.failures[0] if report.failures else None
    print("keras.layers.LayerNormalization:", report.verdict)
    if worst is None:
        print("the defect is gone")
    else:
        print(f"  {worst.label}: analytic {worst.analytic:.4g}, measured {worst.numeric:.4g}")
    print("written by hand:", check(OwnNormalization(name="norm")).verdict)


if __name__ == "__main__":
    main()
