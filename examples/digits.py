"""Train a small convolutional network on handwritten digits, with its gradients checked on the way.

python examples/digits.py
"""

import pathlib
import tempfile

import keras
from keras import layers
from sklearn.datasets import load_digits

import gradhooks


def digits():
    """Returns images (1797, 8, 8, 1) in [0, 1] and labels; the data ships with scikit-learn."""
    data = load_digits()
    return (data.images[..., None] / 16.0).astype("float32"), data.target


def network():
    """Batch normalization, dropout and L2: everything that makes naive gradient checks cry wolf."""
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(16, 3, kernel_regularizer=keras.regularizers.L2(1e-4)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, "relu", kernel_regularizer=keras.regularizers.L2(1e-4)),
            layers.Dense(10),
        ],
        name="digits",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def main():
    keras.utils.set_random_seed(0)
    x, y = digits()
    log_dir = pathlib.Path(tempfile.gettempdir(), "gradhooks-digits")
    check = gradhooks.GradientCheck(x, y, log_dir=log_dir)
    tensorboard = keras.callbacks.TensorBoard(log_dir)
    network().fit(x, y, epochs=5, validation_split=0.2, verbose=2, callbacks=[tensorboard, check])
    print(check.reports[-1])
    print(f"\nSee it in TensorBoard:\n  tensorboard --logdir {log_dir}")


if __name__ == "__main__":
    main()
