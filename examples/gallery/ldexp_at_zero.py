"""`keras.ops.ldexp` has a wrong gradient where its first argument is zero.

python examples/gallery/ldexp_at_zero.py

`ldexp(x, k)` is `x * 2 ** k`, linear in `x`, so that its derivative is `2 ** k` everywhere.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import gradhooks


class Scaled(keras.layers.Layer):
    """Multiplies the weights, which start at zero, by 4."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="zeros", name="w")

    def call(self, x):
        return x * ops.ldexp(self.w, ops.full_like(ops.cast(self.w, "int32"), 2))


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    model = keras.Sequential([keras.Input((3,)), Scaled(name="scaled")], name="net")
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(32, 3))
    report = gradhooks.check_gradients(model, x, 4 * x)
    print(report.verdict, f"({report.reason})")
    worst = max(report.inconclusive, key=lambda c: c.gap, default=None)
    if worst is None:
        print("the defect is gone")
    else:
        print(f"  {worst.label}: analytic {worst.analytic:.4g}, measured {worst.numeric:.4g}")


if __name__ == "__main__":
    main()
