"""The gradient through an SVD is zero where two singular values are equal.

python examples/gallery/svd_equal_singular_values.py

The orthogonal matrix next to a kernel, `U @ V.T`, is a smooth function of the kernel. Its
derivative at the identity, the usual start of an orthogonal layer, is the antisymmetric part of the
change. TensorFlow returns zero there, so that such a layer starts, and stays, where it is.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import gradhooks


class Orthogonal(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(shape[-1], shape[-1]),
            initializer=lambda shape, dtype=None: ops.eye(shape[0], dtype=dtype),
            name="kernel",
        )

    def call(self, x):
        _, u, v = tf.linalg.svd(self.kernel)
        return ops.matmul(x, tf.matmul(u, v, transpose_b=True))


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), Orthogonal(name="orthogonal")], name="net")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(32, 3))
    rotated = x @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    report = gradhooks.check_gradients(model, x, rotated)
    print(report.verdict, f"({report.reason})")
    worst = max(report.inconclusive, key=lambda c: c.gap, default=None)
    if worst is None:
        print("the defect is gone")
    else:
        print(f"  {worst.label}: analytic {worst.analytic:.4g}, measured {worst.numeric:.4g}")
    model.fit(x, rotated, epochs=20, verbose=0)
    moved = np.abs(model.get_weights()[0] - np.eye(3)).max()
    print(f"after 20 epochs the kernel has moved by {moved:.2g}")


if __name__ == "__main__":
    main()
