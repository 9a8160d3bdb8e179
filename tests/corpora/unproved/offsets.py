"""Losses that are large beside all that moves them."""

from functools import partial

import keras
from keras import layers, ops

from tests.corpora.corpus import seeded
from tests.corpora.unproved.building import Entry, regression, stem


def squares(y, p):
    return ops.mean(ops.square(p - y), axis=-1)


def in_the_loss(factor, offset, share=1.0):
    seeded(0)
    return regression(*stem(factor), lambda y, p: squares(y, p) * share + offset)


# No step that stays near the point could move this loss by one of its last digits.
drowned = partial(in_the_loss, offset=1e9, share=1e-10)


class Far(keras.Model):
    def compute_loss(self, *args, **options):
        return super().compute_loss(*args, **options) * 1e-5 + 1e9


def in_compute_loss(factor):
    seeded(0)
    return regression(*stem(factor), make=Far)


class Constant(layers.Layer):
    """Adds to the loss what no parameter moves."""

    def call(self, x):
        self.add_loss(ops.cast(1e12, x.dtype))
        return x


def by_add_loss(factor):
    seeded(0)
    inputs, hidden = stem(factor)
    return regression(inputs, Constant()(hidden))


def far_targets(factor):
    """The loss is 1e12 here as well, and its gradient 1e6."""
    seeded(0)
    model, x, y, options = regression(*stem(factor))
    return model, x, y + 1e6, options


ENTRIES = (
    Entry("loss far by 1e6", partial(in_the_loss, offset=1e6), is_measurable=True),
    Entry("loss far by 1e9, small gradients", drowned),
    Entry("loss far by 1e9 in compute_loss", in_compute_loss),
    Entry("loss far by 1e12, by add_loss", by_add_loss),
    Entry("targets far by 1e6", far_targets, is_measurable=True),
)
