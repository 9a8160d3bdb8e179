"""Forty wrong gradients: four in each of the ten networks of `building`."""

import functools

import tensorflow as tf

from tests.corpora.corpus import Case
from tests.corpora.holdout import building
from tests.corpora.mutants.planted import function, identity, scale, stop


def like(number, tensor):
    return tf.cast(number, tensor.dtype)


def flipped_column(upstream):
    """The sign of the first column is wrong."""
    signs = tf.concat([-tf.ones_like(upstream[..., :1]), tf.ones_like(upstream[..., 1:])], -1)
    return upstream * signs


def rolled(upstream):
    """Every column has the gradient of its neighbour."""
    return tf.roll(upstream, 1, axis=-1)


def first_row_twice(upstream):
    """The first example of the batch counts twice."""
    return tf.concat([2 * upstream[:1], upstream[1:]], 0)


def clipped(upstream):
    """Clipped by its norm, where the loss is not."""
    return tf.clip_by_norm(upstream, 0.5 * tf.norm(upstream))


def without_mean(upstream):
    """The mean over the last axis is taken off."""
    return upstream - tf.reduce_mean(upstream, -1, keepdims=True)


def last_silent(upstream):
    """The last column gets nothing."""
    return tf.concat([upstream[..., :-1], tf.zeros_like(upstream[..., -1:])], -1)


def first_step_lost(upstream):
    """The first time step gets nothing."""
    return tf.concat([tf.zeros_like(upstream[:, :1]), upstream[:, 1:]], 1)


def only_positive(upstream):
    """As guided backpropagation does it."""
    return tf.nn.relu(upstream)


def averaged(upstream):
    """A mean over the batch where there is a sum."""
    return upstream / like(tf.shape(upstream)[0], upstream)


def of_tanh(upstream, x):
    """The derivative of the hyperbolic tangent without the square."""
    return upstream * (1 - tf.tanh(x))


def of_softplus(upstream, x):
    """The derivative of softplus, its sigmoid a little too steep."""
    return upstream * tf.sigmoid(like(1.02, x) * x)


def half_detached():
    """Half of the value comes without a gradient."""
    detach = stop()
    return lambda x: 0.5 * x + 0.5 * detach(x)


def wrong_tanh():
    return function(tf.tanh, of_tanh)


def wrong_softplus():
    return function(tf.math.softplus, of_softplus)


# Network, place, what is planted there, and the layer that must be named.
PLANTED = (
    ("softmax_regression", "on_kernel", lambda: scale(1.0005), "logits/kernel"),
    ("softmax_regression", "on_kernel", lambda: identity(flipped_column), "logits/kernel"),
    ("softmax_regression", "on_output", lambda: identity(without_half_of_the_largest), "logits"),
    ("softmax_regression", "on_output", lambda: identity(first_row_twice), "logits"),
    ("tabular", "on_embedded", lambda: identity(rolled), "table"),
    ("tabular", "on_embedded", half_detached, "table"),
    ("tabular", "on_joined", lambda: scale(0.997), "joined"),
    ("tabular", "on_joined", lambda: identity(clipped), "joined"),
    ("self_normalizing", "on_first", lambda: identity(last_silent), "first"),
    ("self_normalizing", "on_first", wrong_tanh, "first"),
    ("self_normalizing", "on_second", lambda: scale(-1.0), "second"),
    ("self_normalizing", "on_second", wrong_softplus, "second"),
    ("signal", "on_early", lambda: identity(first_step_lost), "early"),
    ("signal", "on_early", lambda: identity(averaged), "early"),
    ("signal", "on_late", lambda: identity(flipped_column), "late"),
    ("signal", "on_late", lambda: scale(1.01), "late"),
    ("separable", "on_depth", lambda: scale(1.002), "depthwise"),
    ("separable", "on_depth", lambda: identity(only_positive), "depthwise"),
    ("separable", "on_groups", lambda: identity(without_mean), "groups"),
    ("separable", "on_groups", lambda: identity(rolled), "groups"),
    ("tagger", "on_words", lambda: identity(first_row_twice), "words"),
    ("tagger", "on_words", lambda: scale(2.0), "words"),
    ("tagger", "on_states", half_detached, "states"),
    ("tagger", "on_states", wrong_softplus, "states"),
    ("encoder", "on_attended", lambda: scale(0.5), "attention"),
    ("encoder", "on_attended", lambda: identity(last_silent), "attention"),
    ("encoder", "on_wide", lambda: identity(flipped_column), "wide"),
    ("encoder", "on_wide", wrong_tanh, "wide"),
    ("autoencoder", "on_code", lambda: scale(1.1), "tied"),
    ("autoencoder", "on_code", lambda: identity(averaged), "tied"),
    ("autoencoder", "on_transposed", stop, "tied/kernel"),
    ("autoencoder", "on_transposed", lambda: scale(1.003), "tied/kernel"),
    ("siamese", "on_embedding", lambda: identity(rolled), "embed"),
    ("siamese", "on_embedding", lambda: scale(1.0002), "embed"),
    ("siamese", "on_similarity", lambda: identity(clipped), "embed"),
    ("siamese", "on_similarity", wrong_softplus, "embed"),
    ("experts", "on_gate", lambda: identity(without_half_of_the_largest), "gate"),
    ("experts", "on_gate", stop, "gate"),
    ("experts", "on_expert", lambda: scale(-0.999), "expert_1"),
    ("experts", "on_expert", lambda: identity(last_silent), "expert_1"),
)


def without_half_of_the_largest(upstream):
    """Half of the largest entry is taken off: no softmax makes up for that."""
    return upstream - 0.5 * tf.reduce_max(tf.abs(upstream), -1, keepdims=True)


def build(name, place, plant, seed):
    """Builds a network with the defect in its place; in a healthy twin, without."""
    return getattr(building, name)(seed, **{place: plant()})


def name_of(number, name, place):
    return f"holdout_{name}_{place.removeprefix('on_')}_{number % 4}"


CASES = [
    Case(
        name_of(number, name, place), functools.partial(build, name, place, plant), culprit=culprit
    )
    for number, (name, place, plant, culprit) in enumerate(PLANTED)
]
