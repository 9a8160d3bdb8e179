"""A fault in a network of a hundred and more layers is named, in a time that one can wait for."""

import time

import keras
import pytest
import tensorflow as tf

import gradhooks
from tests.corpora.corpus import compiled, features, integers, seeded
from tests.corpora.mutants import planted
from tests.localization import judging

WRONG = "conv3_block2_2_relu"
# Five minutes on two cores: a promise of the documentation.
MOST_CPU_SECONDS = 600.0


def halve_one_activation(layer):
    """Returns a copy of a layer, and for one a ReLU that halves the gradient."""
    if layer.name == WRONG:
        relu = planted.function(tf.nn.relu, lambda g, x: 0.5 * g * tf.cast(x > 0, g.dtype))
        return planted.Through(relu, name=WRONG)
    return type(layer).from_config(layer.get_config())


@pytest.mark.sweep
def test_one_wrong_activation_of_fifty_layers_is_named():
    rng = seeded(0)
    network = keras.applications.ResNet50(weights=None, classes=10, input_shape=(64, 64, 3))
    model = keras.models.clone_model(network, clone_function=halve_one_activation)
    compiled(model, "sparse_categorical_crossentropy")
    started = time.process_time()
    report = gradhooks.check_gradients(model, features(rng, 4, 64, 64, 3), integers(rng, 10, 4))
    assert judging.found_in(report) == ("layer", WRONG, None), report
    assert time.process_time() - started < MOST_CPU_SECONDS
