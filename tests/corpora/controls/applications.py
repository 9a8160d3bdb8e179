"""Nine architectures of `keras.applications`, with random weights, ten classes and small images."""

import keras

from tests.corpora.corpus import Case, compiled, features, integers, seeded

# Small images leave one pixel of the last feature maps, and statistics over few numbers amplify the
# rounding of float32: with a batch of 4, MobileNetV2's trained gradient is off by 2e-4, with 16 by
# 1e-5. Where more pixels are left, or no statistics taken, few images do.
MANY, FEW = 16, 4


def application(name, size=32, scale=1.0, batch=MANY, **options):
    """Builds `keras.applications.<name>`; `scale` is for networks that expect pixels from 0 to
    255.
    """

    def build(seed):
        rng = seeded(seed)
        make = getattr(keras.applications, name)
        network = make(weights=None, classes=10, input_shape=(size, size, 3), **options)
        images = features(rng, batch, size, size, 3)
        if scale != 1.0:
            images = scale * (images.clip(-2, 2) + 2) / 4
        return (
            compiled(network, "sparse_categorical_crossentropy"),
            images,
            integers(rng, 10, batch),
        )

    return build


CASES = [
    Case(
        "resnet50",
        application("ResNet50"),
        large=True,
        chaotic=True,
        note="1.5e-4 at seed 7 in float32, 3e-8 under the policy float64: rounding",
    ),
    Case("mobilenet_v2", application("MobileNetV2"), large=True),
    Case("mobilenet_v3_small", application("MobileNetV3Small", scale=255.0), large=True),
    Case("efficientnet_b0", application("EfficientNetB0", scale=255.0), large=True),
    Case("densenet121", application("DenseNet121"), large=True),
    Case("convnext_tiny", application("ConvNeXtTiny", scale=255.0, batch=FEW), large=True),
    Case("vgg16", application("VGG16", batch=FEW), large=True),
    Case("xception", application("Xception", 71, batch=FEW), large=True),
    Case("nasnet_mobile", application("NASNetMobile"), large=True),
]
