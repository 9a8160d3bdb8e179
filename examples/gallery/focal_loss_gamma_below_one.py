"""`BinaryFocalCrossentropy` with a `gamma` below 1 has a NaN gradient for a confident output.

python examples/gallery/focal_loss_gamma_below_one.py

The factor `(1 - p) ** gamma` has an infinite derivative where `p` rounds to 1. The loss is finite,
and nothing shows it until the weights are NaN, one step later.
"""

import keras
import numpy as np
import tensorflow as tf

import gradhooks


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="head")], name="net")
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    loss = keras.losses.BinaryFocalCrossentropy(gamma=0.5, from_logits=True)
    model.compile("sgd", loss)
    x, y = np.array([[200.0], [1.0], [-1.0]]), np.array([[1.0], [0.0], [1.0]])

    report = gradhooks.check_gradients(model, x, y, train_step=False)
    print(report.verdict, f"({report.reason})")
    print(report.culprit.sentence if report.culprit else "the defect is gone")
    value = model.train_on_batch(x, y)
    print(f"loss {value:.4g}; the kernel after one step: {model.get_weights()[0].item():.4g}")


if __name__ == "__main__":
    main()
