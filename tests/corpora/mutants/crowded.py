"""Wrong gradients among kinks everywhere: so many ReLUs that the usual steps would cross some.

A check takes smaller steps there, which see less sharply; a small error must
not hide behind that.
"""

import keras
import numpy as np
from keras import layers, ops

from tests.corpora.corpus import Case, features, seeded, sequential
from tests.corpora.mutants import planted

CHANNELS = 8


def crowded(seed, factors):
    """Three convolutions with 200,000 ReLUs.

    Behind the second the upstream gradient is multiplied by `factors`.
    """
    rng = seeded(seed)
    wrong = planted.function(
        ops.copy, lambda upstream, x: upstream * ops.cast(factors, upstream.dtype)
    )
    behind = {1: [planted.Through(wrong, name="planted")]}
    blocks = [
        [
            layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False, name=f"convolution_{k}"),
            *behind.get(k, []),
            layers.BatchNormalization(name=f"norm_{k}"),
            layers.ReLU(name=f"relu_{k}"),
        ]
        for k in range(3)
    ]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, name="head")]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = sequential(
        (24, 24, 3), *(layer for block in blocks for layer in block), *head, loss=loss
    )
    return model, features(rng, 16, 24, 24, 3), rng.integers(10, size=16)


def off_by_one_in_ten_thousand(seed):
    return crowded(seed, 1.0001)


def one_channel(seed):
    return crowded(seed, np.where(np.arange(CHANNELS) == 3, 2.0, 1.0))


CASES = [
    Case(
        "off_by_1e_4_among_kinks",
        off_by_one_in_ten_thousand,
        culprit="convolution_1",
        reasons=("mismatch",),
        note="a factor of 1.0001, where small steps are needed to miss the kinks",
    ),
    Case(
        "one_channel_among_kinks",
        one_channel,
        culprit="convolution_1",
        reasons=("mismatch",),
        note="the gradient of one channel doubled, where small steps are needed to miss the kinks",
    ),
]
