"""The line that a message names is the user's, also where `call` is inherited."""

import keras
import pytest
from keras import layers

from gradhooks.model import sources
from tests.localization import structure


class Renamed(layers.Dense):
    """Computes what the stock layer computes."""

    def __init__(self, units, **options):
        super().__init__(units, **options)

    def build(self, shape):
        super().build(shape)

    def get_config(self):
        return super().get_config()


class Trained(keras.Sequential):
    """A model of layers; its own code has no part in what it computes."""

    def train_step(self, data):
        return super().train_step(data)

    def sample(self):
        return None


@pytest.mark.parametrize(
    ("layer", "method"),
    [
        (structure.Attending(2, 4), "_compute_attention"),
        (structure.Convolving(4, 3), "convolution_op"),
        (structure.Normalizing(), "_moments"),
    ],
)
def test_what_a_layer_overrides_is_the_users(layer, method):
    source = sources.find_source(layer)
    line = getattr(type(layer), method).__code__.co_firstlineno
    assert source.place.endswith(f"structure.py:{line}")
    assert not source.package


@pytest.mark.parametrize("layer", [layers.Dense(1), layers.MultiHeadAttention(2, 4)])
def test_stock_layers_are_those_of_keras(layer):
    source = sources.find_source(layer)
    assert (source.place, source.package.split()[0]) == ("", "keras")


@pytest.mark.parametrize("layer", [Renamed(1), Trained([layers.Dense(1)])])
def test_what_computes_nothing_is_no_place_to_look(layer):
    assert sources.find_source(layer).place == ""
