"""No layer of Keras' own fails: it passes, is known to approximate, or says why it is undecided."""

import keras
import pytest

from gradhooks import testing, validation
from gradhooks.check import check_once
from gradhooks.model import batch, keras_internals
from gradhooks.reports.reasons import Reason, Verdict
from tests.keras_layers.configurations import LEFT_OUT, list_configurations

CONFIGURATIONS = list_configurations()
# What the default run tries: a layer of each family, and every kind that approximates.
SOME = {
    "Activation-1",
    "AveragePooling2D-1",
    "BatchNormalization-0",
    "BatchNormalization-2",
    "Bidirectional-1",
    "CenterCrop-0",
    "Conv2D-1",
    "Dense-1",
    "Dot-2",
    "EinsumDense-1",
    "Embedding-0",
    "GRUCell-0",
    "LayerNormalization-1",
    "MaxPooling1D-0",
    "MultiHeadAttention-0",
    "QuantizedDense-0",
    "QuantizedDense-2",
    "RandomRotation-1",
    "SpectralNormalization-0",
    "UpSampling2D-1",
}
# Reasons for which nothing is decided, and that are true of these layers.
TRUE = {
    "AutoContrast": "the smallest and the largest pixel of an image are ties, or clipped",
}


def check_layer(configuration, samples=16):
    """The report on one layer: its weights, and its real inputs."""
    layer, x = configuration.make(), configuration.draw()
    call = configuration.call or keras_internals.forward
    if isinstance(x, list) and configuration.call is None:
        takes_list = isinstance(layer, (keras.layers.Layer,)) and _takes_list(layer)
        call = call if takes_list else (lambda layer, x, training: layer(*x))
    fixed = batch.take_batch(x)
    bench = testing._build_bench(layer, fixed.x, call, True)
    options = validation.Options(
        batch_size=None, samples=samples, loss_fn=testing._projection(0), train_step=False
    )
    return check_once(bench, (fixed.x, None, None, None), options)


def _takes_list(layer):
    return not isinstance(
        layer, (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
    )


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
@pytest.mark.sweep
def test_no_layer_fails(configuration, unoptimized):
    assert_true(check_layer(configuration))


@pytest.mark.parametrize("configuration", [c for c in CONFIGURATIONS if str(c) in SOME], ids=str)
def test_some_layers_do_not_fail(configuration, unoptimized):
    assert_true(check_layer(configuration))


def assert_true(report):
    assert report.verdict is not Verdict.FAIL, report
    if report.verdict is Verdict.INCONCLUSIVE:
        assert report.reason in UNDECIDED, report


# What may leave a layer of Keras' undecided.
UNDECIDED = (Reason.KNOWN, Reason.KINK, Reason.NOISE, Reason.NOTHING_SAMPLED)


def test_every_layer_of_keras_is_here():
    names, classes = set(), {}
    for name in dir(keras.layers):
        member = getattr(keras.layers, name)
        if isinstance(member, type) and issubclass(member, keras.layers.Layer):
            classes.setdefault(member, name)
    for member, name in classes.items():
        names |= {name, member.__name__}
    here = {configuration.name for configuration in CONFIGURATIONS} | set(LEFT_OUT)
    missing = {name for member, name in classes.items() if not {name, member.__name__} & here}
    assert missing == set()
    assert len([c for c in CONFIGURATIONS if str(c) in SOME]) == len(SOME)
