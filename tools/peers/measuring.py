"""What a check is asked for, and the memory it takes."""

import resource

import keras
import tensorflow as tf

from gradhooks.checking import run
from gradhooks.checking.settings import Settings
from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from gradhooks.numerics import sampling
from gradhooks.numerics.coordinates import draw_coordinates

SAMPLES = 32


def peak_megabytes():
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def asked(model, x, y):
    """An oracle for a model and a batch, all of it."""
    return oracle.ModelOracle(
        objective.Objective(model), batches.take_batch(x, y, batch_size=len(x))
    )


def forward_pass(model, x, y):
    """Function that evaluates the loss of a batch once, called from Python, at the model's own
    precision.
    """
    x, y = tf.constant(x), tf.constant(y)
    compiled = tf.function(
        lambda x, y: model.compute_loss(x, y, model(x, training=True), None, True)
    )
    return lambda: compiled(x, y).numpy()


def wide(build):
    """The same network with dtype policy float64, with its batch."""
    # Keras remembers the policy that it has made of `floatx` once, so both are set.
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model, x, y = build()
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
    assert {v.dtype for v in model.trainable_variables} == {"float64"}
    return model, x, y


def healthy_coordinates(answering):
    """Function that evaluates what healthy coordinates cost, two losses each, and their number."""
    point = answering.point()
    positions = draw_coordinates(answering.layout, SAMPLES, 0, 0)
    scales = sampling.variable_scales(answering.layout, point)
    probes = [
        sampling.coordinate_probe(p, scales[answering.layout.variable_of(p)]) for p in positions
    ]
    pairs = [(k, sign * 1e-6) for k in range(len(probes)) for sign in (1, -1)]
    return lambda: answering.losses(point, probes, pairs), len(probes)


def check(answering):
    """Function that makes one whole check."""
    return lambda: run.check(answering, Settings(samples=SAMPLES))


def activation_megabytes(answering):
    """Size of everything that the traced pass forth and back computes from the batch, in
    float64 as it is.
    """
    sizes = [
        tensor.shape.num_elements() * tensor.dtype.size
        for operation in answering._compilation.gradients.graph.get_operations()
        for tensor in operation.outputs
        if tensor.shape.is_fully_defined()
        and tensor.dtype.is_floating
        and operation.type not in _NO_ACTIVATIONS
    ]
    return sum(sizes) / 1e6


# What only names or holds numbers that are there already.
_NO_ACTIVATIONS = ("Const", "Placeholder", "Identity", "IdentityN", "Reshape", "Split", "SplitV")
