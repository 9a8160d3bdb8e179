"""Variables that the loss depends on and that Keras does not know, so that nothing trains them."""

import dataclasses

import keras

from gradhooks import backends
from gradhooks.model import compiled_loss, keras_internals

# How many variables are named: a free choice, so that it stays one sentence.
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Untracked:
    """A variable that the loss reads and that is no weight of the model.

    Args:
        id: id of the framework's variable.
        name: Where it is kept, for people: `"model/layer.attribute"`, or its own name.
        size: How many numbers it holds.
        owner: Path of the layer outside of the model whose weight it is, for
            example that of a teacher model; empty without one.
    """

    id: int
    name: str
    size: int
    owner: str = ""


def find_untracked(model, known, read, places):
    """Finds the trainable variables that the loss reads and training does not reach.

    Args:
        model: The model.
        known: Keras variables: weights, metrics, states of generators.
        read: Tuples (framework's variable, name, number of entries) of
            trainable floats that a trace reads.
        places: Everything that the model and the loss lead to, see
            `isolation.reachable`.

    Returns:
        A tuple of `Untracked`.
    """
    optimizer = getattr(model, "optimizer", None)
    slots = optimizer.variables if optimizer is not None else ()
    storage_of = backends.current().storage_of
    known_ids = {id(storage_of(variable)) for variable in [*known, *slots]}
    own_layers = {id(layer) for layer in keras_internals.layers_of(model)}
    place_of = {}
    for place in places:  # a Keras variable comes before the framework's inside of it
        place_of.setdefault(id(storage_of(place.value)), place)
    found = []
    for variable, name, size in read:
        place = place_of.get(id(variable))
        if id(variable) not in known_ids and not _is_frozen(place):
            found.append(_describe(id(variable), place, name, size, own_layers))
    return tuple(found)


def _is_frozen(place):
    """Returns whether a variable is frozen.

    Freezing a layer changes its Keras variables, and not the framework's inside
    of them.
    """
    return place is not None and not getattr(place.value, "trainable", True)


def _describe(variable_id, place, name, size, own_layers):
    """Returns an `Untracked`, named by where the variable was found."""
    chain = []
    while place is not None:
        chain.append(place)
        place = place.above
    layers = [p for p in chain if isinstance(p.value, keras.layers.Layer)]
    foreign = [p for p in layers if id(p.value) not in own_layers]
    if foreign:
        owner = compiled_loss.path_of(foreign[-1].value)
        return Untracked(variable_id, name, size, owner)
    if layers:
        innermost = layers[0]
        links = [p.link for p in chain[: chain.index(innermost)]]
        if all(link in ("attribute", "item") for link in links):
            path = compiled_loss.path_of(innermost.value)
            name = path + str(chain[0]).removeprefix(str(innermost))
    return Untracked(variable_id, name, size)


def sentences(variables, handed):
    """Yields warnings for people.

    Args:
        variables: Sequence of `Untracked`.
        handed: ids of the variables of which an optimizer was handed a gradient.
    """
    names, owners = [], {}
    for variable in variables:
        if variable.id in handed:
            continue
        if variable.owner:
            owners[variable.owner] = True
        else:
            plural = "s" if variable.size != 1 else ""
            names.append(f"{variable.name} ({variable.size} number{plural})")
    if names:
        are, them = ("is no weight", "it") if len(names) == 1 else ("are no weights", "them")
        yield (
            f"the loss reads {_enumerate(names)}, which {are} of the model: Keras does not train "
            f"{them}"
        )
    if owners:
        are = "is no part" if len(owners) == 1 else "are no parts"
        yield (
            f"the loss reads weights of {_enumerate(list(owners))}, which {are} of the model and "
            "not trained with it"
        )


def _enumerate(names):
    """Returns `"a, b, c and 3 more"`."""
    named = ", ".join(names[:_MOST_NAMED])
    rest = len(names) - _MOST_NAMED
    return f"{named} and {rest} more" if rest > 0 else named
