"""Variables that the loss depends on and that Keras does not know: nobody trains them."""

import dataclasses

from gradhooks.model import keras_internals

# So many are named.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Untracked:
    """A variable that the loss reads and that is no weight of the model.

    Args:
        id: id of the framework's variable.
        name: Where it is kept, for people: `"model/layer.attribute"`, or its own name.
        size: How many numbers it holds.
        owner: Path of the layer outside of the model whose weight it is, a teacher above all; empty without one.
    """

    id: int
    name: str
    size: int
    owner: str = ""


def find_untracked(model, known, read, places):
    """Returns an `Untracked` for each trainable variable that is read and that training does not reach.

    Args:
        model: The model.
        known: Keras variables: weights, metrics, states of generators.
        read: Tuples (framework's variable, name, number of entries) of trainable floats that a trace reads.
        places: Everything that the model and the loss lead to, see `isolation.reachable`.
    """
    optimizer = getattr(model, "optimizer", None)
    known = {
        id(v._value) for v in [*known, *(optimizer.variables if optimizer is not None else ())]
    }
    own = {id(layer) for layer in keras_internals.layers_of(model)}
    by_id = {}
    for place in places:  # the Keras variable comes before what is inside of it
        by_id.setdefault(id(getattr(place.value, "_value", place.value)), place)
    return tuple(
        Untracked(id(variable), *_described(by_id.get(id(variable)), name, size, own))
        for variable, name, size in read
        if id(variable) not in known and not _is_frozen(by_id.get(id(variable)))
    )


def _is_frozen(place):
    """Freezing a layer tells its Keras variables, and not the framework's inside of them."""
    return place is not None and not getattr(place.value, "trainable", True)


def _described(place, name, size, own):
    """The name, the size, and the path of the layer outside of the model."""
    import keras

    above = []
    while place is not None:
        above.append(place)
        place = place.above
    layers = [p for p in above if isinstance(p.value, keras.layers.Layer)]
    foreign = [p for p in layers if id(p.value) not in own]
    if foreign:
        return name, size, keras_internals.path_of(foreign[-1].value)
    if layers and all(p.link in ("attribute", "item") for p in above[: above.index(layers[0])]):
        name = keras_internals.path_of(layers[0].value) + str(above[0]).removeprefix(str(layers[0]))
    return name, size, ""


def sentences(variables, handed):
    """Yields what to tell people.

    Args:
        variables: Sequence of `Untracked`.
        handed: ids of the variables of which a gradient was seen on its way to an optimizer.
    """
    variables = [v for v in variables if v.id not in handed]
    alone = [
        f"{v.name} ({v.size} number{'s' if v.size != 1 else ''})" for v in variables if not v.owner
    ]
    if alone:
        are, them = ("is no weight", "it") if len(alone) == 1 else ("are no weights", "them")
        yield f"the loss reads {_some(alone)}, which {are} of the model: Keras does not train {them}"
    owners = list(dict.fromkeys(v.owner for v in variables if v.owner))
    if owners:
        are = "is no part" if len(owners) == 1 else "are no parts"
        yield f"the loss reads weights of {_some(owners)}, which {are} of the model and not trained with it"


def _some(names):
    return ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )
