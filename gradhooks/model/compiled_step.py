"""The step that `fit` has compiled before, held against the one that it would compile now.

`fit` keeps its compiled step until `compile()` is called. What is frozen or made
trainable in between changes the model's lists of weights, and not what is trained.
"""

import dataclasses

from gradhooks import backends

# So many layers are named; more would bury the advice.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Outdated:
    """What the compiled step does otherwise than `train_step` as it stands.

    Args:
        frozen: Paths of variables that it trains and `train_step` no longer does.
        thawed: Paths of variables that it does not train and `train_step` would.
        missed: Numbers of the latter among the model's trainable variables.
    """

    frozen: tuple[str, ...] = ()
    thawed: tuple[str, ...] = ()
    missed: frozenset = frozenset()

    def sentences(self):
        """Returns what to tell people, one sentence each."""
        found = []
        if self.frozen:
            found.append(
                f"{_layers(self.frozen)} was frozen after fit() had compiled its step, which still trains it: "
                "compile the model again"
            )
        if self.thawed:
            found.append(
                f"{_layers(self.thawed)} was made trainable after fit() had compiled its step, which does not train "
                "it: compile the model again"
            )
        return tuple(found)


UP_TO_DATE = Outdated()


def find_outdated(model, handed, optimizer):
    """Returns how the step that `fit` has compiled differs from `train_step` run now, an `Outdated`.

    Both flag and deed are asked: what `train_step` leaves out on purpose, and
    what an optimizer leaves where it is, differs in one of them alone.

    Args:
        model: The model.
        handed: The Keras variables of which `train_step`, run now, hands a gradient to the optimizer.
        optimizer: That optimizer.
    """
    backend = backends.current()
    known = _built_for(optimizer)
    present = {id(v): v for v in handed}
    every = [(v, backend.handle_ids(v)) for v in {**known, **present}.values()]
    traces = [
        {id(v) for v, handles in every if handles & written} for written in _traces(model, backend)
    ]
    if not traces or any(trained == set(present) for trained in traces):
        return UP_TO_DATE
    always, ever = set.intersection(*traces), set.union(*traces)
    frozen = [
        v.path for v, _ in every if id(v) in always and id(v) not in present and not v.trainable
    ]
    trainable = list(model.trainable_variables)
    thawed = [
        k
        for k, v in enumerate(trainable)
        if id(v) in present and id(v) not in ever and id(v) not in known
    ]
    return Outdated(tuple(frozen), tuple(trainable[k].path for k in thawed), frozenset(thawed))


def _built_for(optimizer):
    """id -> Keras variable, for those that an optimizer was built for; it takes no others later."""
    inner = getattr(optimizer, "inner_optimizer", None) or optimizer
    return {id(v): v for v in getattr(inner, "_trainable_variables", None) or ()}


def _traces(model, backend):
    return backend.find_written_handles(getattr(model, "train_function", None))


def _layers(paths):
    """Names the layers of some variables: `"a, b and 3 more layers"`."""
    layers = list(dict.fromkeys(path.rpartition("/")[0] or path for path in paths))
    named = ", ".join(layers[:_NAMED])
    return named if len(layers) <= _NAMED else f"{named} and {len(layers) - _NAMED} more"
