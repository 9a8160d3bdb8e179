"""Training in float16 with and without loss scaling.

Small gradients become zero, and gradhooks names where.

python examples/mixed_precision.py
"""

import keras
import numpy as np
from keras import layers

import gradhooks


def network(is_scaled):
    """Returns a regression network in half precision, compiled with or without the loss scaling
    that Keras adds.
    """
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    stack = [layers.Dense(32, "sigmoid", name=name) for name in ("first", "second", "third")]
    head = layers.Dense(
        1, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.003), name="head"
    )
    model = keras.Sequential([layers.Input((10,)), *stack, head], name="network")
    model.compile("sgd", "mse", auto_scale_loss=is_scaled)
    keras.config.set_dtype_policy("float32")
    return model


def main():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 10)).astype("float32")
    # Lengths of some millimetres, in metres.
    y = 0.003 * np.sin(x[:, :1])
    for is_scaled in (False, True):
        report = gradhooks.check_gradients(network(is_scaled), x, y)
        print(
            f"\n{'with' if is_scaled else 'without'} loss scaling: "
            f"{report.verdict} ({report.reason})"
        )
        for comparison in report.comparisons:
            if comparison.term == "trained":
                print(
                    f"  {comparison.path:<22} {comparison.zeros:4.0%} of the gradient is zero, "
                    f"{comparison.verdict}"
                )
        if report.verdict is gradhooks.Verdict.FAIL:
            print(gradhooks.GradientMismatchError(report))


if __name__ == "__main__":
    main()
