"""Weight gradients with the right numbers in the wrong places, or averaged where they should be
apart.
"""

from keras import layers, ops

from tests.corpora.corpus import Case, features, integers, seeded, sequential
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import dense


def square(seed, rule):
    """A square kernel, so that a wrong orientation does not show in its shape."""
    return dense(seed, on_kernel=planted.identity(rule))


def images(seed, *middle):
    """An image classifier: `below`, what the functions in `middle` make, `above` and `head`."""
    rng = seeded(seed)
    model = sequential(
        (8, 8, 3),
        layers.Conv2D(4, 3, padding="same", activation="tanh", name="below"),
        *(make() for make in middle),
        layers.Conv2D(5, 3, padding="same", activation="tanh", name="above"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="head"),
        layers.Softmax(),
        loss="sparse_categorical_crossentropy",
    )
    return model, features(rng, 8, 8, 8, 3), integers(rng, 3, 8)


def convolution(seed, **places):
    return images(
        seed,
        lambda: planted.Conv2D(4, 3, padding="same", activation="tanh", name="planted", **places),
    )


def depthwise(seed, rule):
    class Depthwise(layers.DepthwiseConv2D):
        def __init__(self, **options):
            super().__init__(3, padding="same", activation="tanh", **options)
            self.on_kernel = planted.identity(rule)

        def call(self, x):
            kernel = self.on_kernel(self.kernel)
            product = ops.depthwise_conv(x, kernel, strides=1, padding="same")
            return ops.tanh(product + planted.tensor(self.bias))

    return images(seed, lambda: Depthwise(name="planted"))


def pooling(seed, forward, rule):
    function = planted.function(forward, rule)
    return images(seed, lambda: planted.Through(function, name="planted"))


def _blocks(x):
    """Shape (B, H, W, C) as 2 x 2 blocks: (B, H/2, 2, W/2, 2, C)."""
    _, height, width, channels = x.shape
    return ops.reshape(x, [-1, height // 2, 2, width // 2, 2, channels])


def _spread(g):
    """Repeats every pixel over a 2 x 2 block."""
    return ops.repeat(ops.repeat(g, 2, axis=1), 2, axis=2)


def _max_pool(x):
    return ops.max(_blocks(x), axis=(2, 4))


def _average_pool(x):
    return ops.mean(_blocks(x), axis=(2, 4))


def _shuffled(g, x):
    """Undoes `depth_to_space` by a reshape alone, which mixes up rows and channels."""
    return ops.reshape(g, ops.shape(x))


CASES = [
    Case(
        "transposed_kernel",
        lambda s: square(s, ops.transpose),
        "planted",
        note="row-major taken for column-major",
    ),
    Case(
        "averaged_over_units",
        lambda s: square(s, lambda g: ops.zeros_like(g) + ops.mean(g, axis=-1, keepdims=True)),
        "planted",
        note="all units learn the same: a broadcast in place of a reduction",
    ),
    Case(
        "averaged_over_the_kernel",
        lambda s: convolution(
            s, on_kernel=planted.identity(lambda g: ops.zeros_like(g) + ops.mean(g))
        ),
        "planted",
        note="one mean for the whole convolution kernel",
    ),
    Case(
        "rolled_units",
        lambda s: square(s, lambda g: ops.roll(g, 1, -1)),
        "planted",
        note="shifted by one unit",
    ),
    Case(
        "flipped_convolution",
        lambda s: convolution(s, on_kernel=planted.identity(lambda g: ops.flip(g, (0, 1)))),
        "planted",
        note="convolution and correlation confused",
    ),
    Case(
        "convolution_bias_averaged",
        lambda s: convolution(s, on_bias=planted.scale(1 / 64)),
        "planted",
        note="the bias's gradient averaged over the 64 pixels, not summed",
    ),
    Case(
        "depthwise_one_channel",
        lambda s: depthwise(
            s, lambda g: g * ops.convert_to_tensor([1, 1, 1.2, 1], g.dtype)[:, None]
        ),
        "planted",
        note="one channel of a depthwise kernel",
    ),
    Case(
        "depthwise_rolled",
        lambda s: depthwise(s, lambda g: ops.roll(g, 1, 2)),
        "planted",
        note="channels shifted by one",
    ),
    Case(
        "max_pool_as_average",
        lambda s: pooling(s, _max_pool, lambda g, x: _spread(g) / 4),
        "below",
        note="the maximum's gradient handed to all four pixels",
    ),
    Case(
        "average_pool_as_sum",
        lambda s: pooling(s, _average_pool, lambda g, x: _spread(g)),
        "below",
        note="the division by the window's size is missing",
    ),
    Case(
        "upsampling_takes_one",
        lambda s: pooling(s, _spread, lambda g, x: g[:, ::2, ::2]),
        "below",
        note="one of four copies sends its gradient back",
    ),
    Case(
        "pixel_shuffle_by_reshape",
        lambda s: pooling(s, lambda x: ops.depth_to_space(x, 2), _shuffled),
        "below",
        note="a permutation undone by a reshape",
    ),
]
