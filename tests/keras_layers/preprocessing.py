"""Layers that prepare data: images, sounds, numbers."""

_IMAGE = (6, 6, 3)
_RANGE = {"value_range": (0, 1), "seed": 3}
_FILLS = [
    {"seed": 3},
    {"seed": 4, "fill_mode": "constant"},
    {"seed": 5, "interpolation": "nearest"},
]


def _each(options, **common):
    """Options, each with what is common to all."""
    return [{**common, **own} for own in options]


LAYERS = {
    "AugMix": (_IMAGE, _each([{}, {"factor": 0.5}, {"num_chains": 2}], **_RANGE)),
    "AutoContrast": (_IMAGE, [{"value_range": (0, 1)}, {"value_range": (0, 2)}, {}]),
    "CenterCrop": (_IMAGE, [{"height": h, "width": w} for h, w in ((4, 4), (3, 5), (8, 8))]),
    "ContrastLimitedAdaptiveHistogramEqualization": (
        (8, 8, 3),
        _each(
            [
                {"tile_grid_size": (2, 2)},
                {"tile_grid_size": (4, 4)},
                {"tile_grid_size": (2, 2), "clip_limit": 2.0},
            ],
            value_range=(0, 1),
        ),
    ),
    "CutMix": (_IMAGE, [{"seed": 1}, {"seed": 2, "factor": 0.5}, {"seed": 3, "factor": 0.9}]),
    "Equalization": (_IMAGE, _each([{}, {"bins": 16}, {"bins": 64}], value_range=(0, 1))),
    "MelSpectrogram": (
        (64,),
        _each(
            [{}, {"power_to_db": False}, {"mag_exp": 1.0}],
            fft_length=16,
            sequence_stride=8,
            num_mel_bins=4,
            sampling_rate=64,
            min_freq=1.0,
            max_freq=30.0,
        ),
    ),
    "MixUp": (_IMAGE, [{"seed": 1}, {"seed": 2, "alpha": 0.5}, {"seed": 3, "alpha": 1.0}]),
    "Normalization": (
        (5,),
        [
            {"mean": 0.5, "variance": 2.0},
            {"mean": [0.0, 1.0, 2.0, 3.0, 4.0], "variance": [1.0, 2.0, 1.0, 2.0, 1.0]},
            {"mean": 0.1, "variance": 1.0, "invert": True},
        ],
    ),
    "RandAugment": (_IMAGE, _each([{}, {"factor": 0.3}, {"num_ops": 1}], **_RANGE)),
    "RandomBrightness": (_IMAGE, _each([{"factor": f} for f in (0.1, 0.3, (-0.2, 0))], **_RANGE)),
    "RandomColorDegeneration": (_IMAGE, _each([{"factor": f} for f in (0.3, 0.9, 0.1)], **_RANGE)),
    "RandomColorJitter": (
        _IMAGE,
        _each(
            [{"brightness_factor": 0.1}, {"contrast_factor": 0.2}, {"hue_factor": 0.1}], **_RANGE
        ),
    ),
    "RandomContrast": (_IMAGE, _each([{"factor": f} for f in (0.1, 0.3, 0.2)], **_RANGE)),
    "RandomCrop": (
        _IMAGE,
        _each([{"height": h, "width": w} for h, w in ((4, 4), (3, 5), (5, 6))], seed=3),
    ),
    "RandomElasticTransform": (_IMAGE, _each(_FILLS, value_range=(0, 1))),
    "RandomErasing": (_IMAGE, _each([{}, {"factor": 0.5}, {"scale": (0.1, 0.3)}], **_RANGE)),
    "RandomFlip": (
        _IMAGE,
        [{"mode": m, "seed": 1} for m in ("horizontal", "vertical", "horizontal_and_vertical")],
    ),
    "RandomGaussianBlur": (
        _IMAGE,
        _each([{}, {"kernel_size": 3}, {"sigma": 0.5}], **_RANGE),
    ),
    "RandomGrayscale": (_IMAGE, [{"factor": f, "seed": 3} for f in (0.5, 0.9, 0.1)]),
    "RandomHue": (_IMAGE, _each([{"factor": f} for f in (0.1, 0.3, 0.5)], **_RANGE)),
    "RandomInvert": (_IMAGE, _each([{"factor": f} for f in (0.5, 1.0, 0.1)], **_RANGE)),
    "RandomPerspective": (
        _IMAGE,
        _each([{}, {"scale": 0.3}, {"interpolation": "nearest"}], factor=1.0, seed=3),
    ),
    "RandomPosterization": (_IMAGE, _each([{"factor": n} for n in (2, 4, 6)], **_RANGE)),
    "RandomRotation": (_IMAGE, _each(_FILLS, factor=0.2)),
    "RandomSaturation": (_IMAGE, _each([{"factor": f} for f in (0.3, 0.6, 0.9)], **_RANGE)),
    "RandomSharpness": (_IMAGE, _each([{"factor": f} for f in (0.3, 0.6, 0.9)], **_RANGE)),
    "RandomShear": (_IMAGE, _each(_FILLS, x_factor=0.2, y_factor=0.2)),
    "RandomTranslation": (_IMAGE, _each(_FILLS, height_factor=0.2, width_factor=0.2)),
    "RandomZoom": (_IMAGE, _each(_FILLS, height_factor=0.3)),
    "Rescaling": ((5,), [{"scale": 2.0}, {"scale": 0.5, "offset": 1.0}, {"scale": -1.0}]),
    "Resizing": (
        _IMAGE,
        [
            {"height": 4, "width": 4},
            {"height": 8, "width": 5, "interpolation": "bicubic"},
            {"height": 3, "width": 3, "interpolation": "nearest"},
        ],
    ),
    "STFTSpectrogram": (
        (64, 1),
        _each(
            [{}, {"mode": "magnitude"}, {"mode": "real"}],
            frame_length=16,
            frame_step=8,
            fft_length=16,
        ),
    ),
    "Solarization": (
        _IMAGE,
        _each([{}, {"threshold_factor": 0.5}, {"addition_factor": 0.2}], **_RANGE),
    ),
}
IMAGES = {name for name, (shape, _) in LAYERS.items() if shape in (_IMAGE, (8, 8, 3))}
