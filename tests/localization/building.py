"""What the localization cases are made of: a case, and the networks that a fault is put into.

Every network of this file has healthy layers below and above the place where `middle`
stands, so that a fault there shows in the gradients of layers that have none.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
from keras import layers

from tests.corpora.corpus import compiled, features, seeded

# A layer that is called several times and is wrong at each call: any of them may be named.
ANY_CALL = "any call"


@dataclasses.dataclass(frozen=True)
class Case:
    """One model with a fault at a known place.

    Args:
        name: Unique name; it is also the test's id.
        group: What sort of fault it is; a healthy twin of each group is checked
            beside it by default.
        build: `build(seed)` returns `(model, x, y)` or `(model, x, y, options)`,
            with further arguments of the check.
        kind: What must be named: "layer", "loss", "regularizer" or "train_step".
        at: Names of the layer or loss that must be named; any of them is right.
        call: Which call of a layer that is called several times; None of one
            that is called once; or `ANY_CALL`.
        others: Further places, `(kind, name)`, that may be named instead.
        must_be_named: Whether no name at all is wrong. False where nothing
            that can be measured tells the place.
        host: The network that the fault is put into.
        options: Further arguments of the check.
        note: What is wrong.
    """

    name: str
    group: str
    build: Callable
    kind: str = "layer"
    at: str | tuple[str, ...] = "planted"
    call: int | str | None = None
    others: tuple[tuple[str, str], ...] = ()
    must_be_named: bool = True
    host: str = "mlp"
    options: Mapping = dataclasses.field(default_factory=dict)
    note: str = ""

    def __str__(self):
        return self.name

    @property
    def names(self):
        """Names of what must be named, as a tuple."""
        return (self.at,) if isinstance(self.at, str) else tuple(self.at)


def finish(inputs, outputs, loss="mse", model_class=keras.Model):
    """Returns a compiled Functional model."""
    return compiled(model_class(inputs, outputs, name="network"), loss)


def mlp(seed, middle, **options):
    """Three dense layers around `middle`."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(8, activation="tanh", name="below")(x)
    hidden = middle(hidden)
    hidden = layers.Dense(6, activation="tanh", name="above")(hidden)
    head = layers.Dense(2, name="head")(hidden)
    return finish(x, head, **options), features(rng, 16, 6), features(rng, 16, 2)


def conv(seed, middle, **options):
    """Two convolutions around `middle`."""
    rng = seeded(seed)
    x = keras.Input((8, 8, 2), name="x")
    hidden = layers.Conv2D(4, 3, padding="same", activation="tanh", name="below")(x)
    hidden = middle(hidden)
    hidden = layers.Conv2D(4, 3, padding="same", activation="tanh", name="above")(hidden)
    pooled = layers.GlobalAveragePooling2D(name="pool")(hidden)
    head = layers.Dense(2, name="head")(pooled)
    return finish(x, head, **options), features(rng, 8, 8, 8, 2), features(rng, 8, 2)


def recurrent(seed, middle, **options):
    """Two recurrent layers around `middle`; with few steps, since loops take long to evaluate."""
    rng = seeded(seed)
    x = keras.Input((4, 4), name="x")
    hidden = layers.GRU(8, return_sequences=True, name="below")(x)
    hidden = middle(hidden)
    hidden = layers.SimpleRNN(5, name="above")(hidden)
    head = layers.Dense(2, name="head")(hidden)
    return finish(x, head, **options), features(rng, 8, 4, 4), features(rng, 8, 2)


def attention(seed, middle, **options):
    """A block of a transformer below `middle`."""
    rng = seeded(seed)
    x = keras.Input((6, 4), name="x")
    hidden = layers.Dense(8, name="below")(x)
    attended = layers.MultiHeadAttention(2, 4, name="attend")(hidden, hidden)
    hidden = layers.Add(name="residual")([hidden, attended])
    hidden = middle(layers.LayerNormalization(name="norm")(hidden))
    hidden = layers.Dense(6, activation="tanh", name="above")(hidden)
    pooled = layers.GlobalAveragePooling1D(name="pool")(hidden)
    head = layers.Dense(2, name="head")(pooled)
    return finish(x, head, **options), features(rng, 8, 6, 4), features(rng, 8, 2)


HOSTS = {"mlp": mlp, "conv": conv, "recurrent": recurrent, "attention": attention}
USUAL = ("mlp", "conv", "recurrent")


def spread(group, name, make, hosts=USUAL, model_options=dict, **expected):
    """Returns one case per network.

    Args:
        group: The group of the cases.
        name: Beginning of their names; the network's name is added.
        make: `make()` returns what stands in the middle: a layer or a function.
        hosts: Names of the networks.
        model_options: `model_options()` returns further arguments of the network.
        expected: Further fields of the cases.
    """
    cases = []
    for host in hosts:

        def build(seed, host=host):
            seeded(seed)  # layers draw their initial seeds when they are made
            return HOSTS[host](seed, make(), **model_options())

        cases.append(Case(f"{name}_{host}", group, build, host=host, **expected))
    return cases


def chain(*parts):
    """Returns a function that applies layers and functions one after the other."""

    def apply(x):
        for part in parts:
            x = part(x)
        return x

    return apply


def nothing(x):
    """The middle of a network into which nothing is put."""
    return x
