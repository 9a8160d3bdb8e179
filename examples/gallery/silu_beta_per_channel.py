"""`tf.nn.silu` with one `beta` per channel trains every channel by the sum over all of them.

python examples/gallery/silu_beta_per_channel.py

Its custom gradient sums the gradient of `beta` over everything, whatever the shape of `beta`, and
returns one number. The tape broadcasts it to the variable without a word.
"""

import keras
import numpy as np
import tensorflow as tf

from gradhooks.testing import assert_gradients


class Swish(keras.layers.Layer):
    def build(self, shape):
        self.beta = self.add_weight(shape=(shape[-1],), initializer="ones", name="beta")

    def call(self, x):
        return tf.nn.silu(x, self.beta)


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    x = np.random.default_rng(0).normal(size=(4, 3))
    try:
        assert_gradients(Swish(name="swish"), x)
        print("the defect is gone")
    except AssertionError as error:
        rows = [line for line in str(error).splitlines() if line.startswith("FAIL swish/beta")]
        for label, _, analytic, numeric in (row.split()[1:5] for row in rows):
            print(f"  {label}: analytic {float(analytic):.4g}, measured {float(numeric):.4g}")


if __name__ == "__main__":
    main()
