"""Approximations that Keras and TensorFlow make on purpose: layers whose gradient is not exact.

A layer that a user has derived from one of these is another layer.
"""

import dataclasses
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True)
class Approximation:
    """A gradient that is no derivative, on purpose.

    Args:
        layers: Names of the classes in `keras.layers`.
        applies: Function (layer, training) -> whether this layer approximates.
        weights: Function layer -> its own variables whose gradient is not exact.
        is_for_inputs: Whether the gradient with respect to the inputs is not exact.
        trained: Of which variables the optimizer receives another gradient than that of
            the loss: `"none"`, the layer's `"own"` weights from above, or `"all"` of the
            model's.
        sentence: What is approximated, as a clause.
        page: Where that is documented.
    """

    layers: tuple[str, ...]
    applies: Callable
    weights: Callable
    is_for_inputs: bool
    trained: str
    sentence: str
    page: str


def _is_training(layer, training):
    return training and layer.trainable


def _renormalizes(layer, training):
    return _is_training(layer, training) and getattr(layer, "renorm", False)


def _rounds_inputs(layer, training):
    is_integer = layer.quantization_mode in ("int8", "int4")
    return is_integer and getattr(layer, "inputs_quantizer", None) is not None


def _is_float8(layer, training):
    return layer.quantization_mode == "float8"


def _no_weights(layer):
    return []


APPROXIMATIONS = (
    Approximation(
        ("SpectralNormalization",),
        lambda layer, training: training,
        lambda layer: [layer.kernel],
        is_for_inputs=False,
        trained="own",
        sentence=(
            "the vectors of the power iteration count as constants although they depend on the "
            "kernel, and every training step replaces the kernel by the normalized one"
        ),
        page="https://www.tensorflow.org/api_docs/python/tf/keras/layers/SpectralNormalization",
    ),
    Approximation(
        ("BatchNormalization",),
        _renormalizes,
        _no_weights,
        is_for_inputs=True,
        trained="none",
        sentence=(
            "the corrections r and d of batch renormalization count as constants, although they "
            "depend on the batch"
        ),
        page="https://keras.io/api/layers/normalization_layers/batch_normalization/",
    ),
    Approximation(
        ("Dense", "EinsumDense", "ReversibleEmbedding"),
        _rounds_inputs,
        _no_weights,
        is_for_inputs=True,
        trained="none",
        sentence=(
            "a quantized layer rounds its inputs to integers, and propagates gradients as if it "
            "did not"
        ),
        page="https://keras.io/guides/quantization_overview/",
    ),
    Approximation(
        ("Dense", "EinsumDense"),
        _is_float8,
        lambda layer: layer.trainable_variables,
        is_for_inputs=True,
        trained="all",
        sentence=(
            "a float8 layer rounds inputs, kernel and gradients to eight bits, and propagates "
            "gradients as if it did not"
        ),
        page="https://keras.io/guides/quantization_overview/",
    ),
    Approximation(
        (
            "RandomRotation",
            "RandomZoom",
            "RandomTranslation",
            "RandomShear",
            "RandomPerspective",
            "RandAugment",
            "AugMix",
        ),
        lambda layer, training: True,
        _no_weights,
        is_for_inputs=True,
        trained="none",
        sentence=(
            "TensorFlow's gradient of ImageProjectiveTransformV3 transforms images back instead "
            "of transposing the interpolation"
        ),
        page="https://www.tensorflow.org/api_docs/python/tf/raw_ops/ImageProjectiveTransformV3",
    ),
    Approximation(
        (
            "ContrastLimitedAdaptiveHistogramEqualization",
            "Equalization",
            "RandomPosterization",
        ),
        lambda layer, training: True,
        _no_weights,
        is_for_inputs=True,
        trained="none",
        sentence=(
            "pixels are rounded to whole numbers to find their new values, and no gradient passes "
            "through that"
        ),
        page="https://keras.io/api/layers/preprocessing_layers/image_augmentation/",
    ),
    Approximation(
        ("RandomColorJitter", "RandomHue", "RandomSaturation"),
        lambda layer, training: True,
        _no_weights,
        is_for_inputs=True,
        trained="none",
        sentence=(
            "TensorFlow declares that HSVToRGB is not differentiable, so that no gradient passes "
            "from colours to pixels"
        ),
        page="https://www.tensorflow.org/api_docs/python/tf/image/hsv_to_rgb",
    ),
)


def find_approximations(layer):
    """Returns the `Approximation`s that a layer of this class can make."""
    found = []
    for approximation in APPROXIMATIONS:
        for name in approximation.layers:
            # A class of Keras' that this version may not have.
            if type(layer) is getattr(keras.layers, name, None):
                found.append(approximation)
    return found
