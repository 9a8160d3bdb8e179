"""No layer of Keras' own fails: it passes, is known to approximate, or says why it is undecided."""

import keras
import numpy as np
import pytest

from gradhooks import validation
from gradhooks.check import check_once
from gradhooks.model import batch, keras_internals
from gradhooks.model import bench as benches
from gradhooks.reports.reasons import Reason, Verdict
from tests.keras_layers.configurations import EXAMPLES, LEFT_OUT, list_configurations

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
# What may leave a layer of Keras' undecided.
UNDECIDED = (Reason.KNOWN, Reason.KINK, Reason.NOISE, Reason.NOTHING_SAMPLED)
# Layers with real inputs that are called with nothing else, one configuration of each. Keras makes
# no functional model with an `Equalization`: its tensors "are part of a cycle".
IN_MODELS = [
    c for c in CONFIGURATIONS if not (c.number or c.largest or c.call or c.name == "Equalization")
]


def check_layer(configuration, samples=16):
    """The report on one layer: its weights, and its real inputs."""
    layer, x = configuration.make(), configuration.draw()
    call = configuration.call or keras_internals.forward
    if isinstance(x, list) and isinstance(layer, TAKES_TWO):
        call = call_with_two
    fixed = batch.take_batch(x)
    bench = benches.build_bench(layer, fixed.x, call, True)
    options = validation.Options(
        batch_size=None, samples=samples, loss_fn=benches.make_projection(0), train_step=False
    )
    return check_once(bench, (fixed.x, None, None, None), options)


TAKES_TWO = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def call_with_two(layer, x, training):
    return layer(*x, training=training)


def check_model(configuration, samples=16):
    """The report on a model with a dense layer before and one behind the layer."""
    layer, x = configuration.make(), configuration.draw()
    inputs = [keras.Input(shape) for shape in configuration.shapes]
    below = [keras.layers.Dense(i.shape[-1], activation="sigmoid")(i) for i in inputs]
    if len(below) == 1:
        outputs = layer(below[0])
    else:
        outputs = layer(*below) if isinstance(layer, TAKES_TWO) else layer(below)
    flat = [keras.layers.Flatten()(output) for output in keras.tree.flatten(outputs)]
    model = keras.Model(inputs, [keras.layers.Dense(2)(output) for output in flat])
    model.compile("sgd", "mse")
    targets = [np.ones((EXAMPLES, 2), "float32") for _ in flat]
    options = validation.Options(samples=samples)
    return check_once(model, (x, targets if len(flat) > 1 else targets[0], None, None), options)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
@pytest.mark.sweep
def test_no_layer_fails(configuration, unoptimized):
    assert_true(check_layer(configuration))


@pytest.mark.parametrize("configuration", IN_MODELS, ids=str)
@pytest.mark.sweep
def test_no_model_around_a_layer_fails(configuration, unoptimized):
    assert_true(check_model(configuration))


@pytest.mark.parametrize("configuration", [c for c in CONFIGURATIONS if str(c) in SOME], ids=str)
def test_some_layers_do_not_fail(configuration, unoptimized):
    assert_true(check_layer(configuration))


def assert_true(report):
    assert report.verdict is not Verdict.FAIL, report
    if report.verdict is Verdict.INCONCLUSIVE:
        assert report.reason in UNDECIDED, report


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
