"""`keras.ops.sinc` has a NaN gradient at zero.

python examples/gallery/sinc_at_zero.py

`sin(pi x) / (pi x)` is 1 at zero, and its derivative is 0. The value takes the special case by
`where`; the gradient of the branch that is not taken is NaN, and `where` multiplies it by zero.
"""

import keras
import numpy as np
import tensorflow as tf

from gradhooks.testing import assert_gradients


class Sinc(keras.layers.Layer):
    def call(self, x):
        return keras.ops.sinc(x)


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    try:
        assert_gradients(Sinc(name="sinc"), np.array([[0.0, 0.5]]))
        print("the defect is gone")
    except AssertionError as error:
        print(str(error).splitlines()[0])
    assert_gradients(Sinc(name="sinc"), np.array([[1e-3, 0.5]]))
    print("beside zero it is right")


if __name__ == "__main__":
    main()
