"""The step that `fit` compiled before, compared with the one that it would compile now.

`fit` keeps its compiled step until `compile()` is called. Freezing or unfreezing
layers in between changes the model's lists of weights, and not what is trained.
"""

import dataclasses

from gradhooks import backends
from gradhooks.model import keras_internals

# How many layers are named: a free choice, since more would hide the advice.
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Outdated:
    """What the compiled step does otherwise than `train_step` now would.

    Args:
        frozen: Paths of variables that it trains and `train_step` no longer does.
        thawed: Paths of variables that it does not train and `train_step` would.
        missed: Numbers of the latter among the model's trainable variables.
    """

    frozen: tuple[str, ...] = ()
    thawed: tuple[str, ...] = ()
    missed: frozenset = frozenset()

    def sentences(self):
        """Returns warnings for people, a tuple of sentences."""
        warnings = []
        if self.frozen:
            warnings.append(
                f"{_name_layers(self.frozen)} was frozen after fit() had compiled its step, which "
                "still trains it: compile the model again"
            )
        if self.thawed:
            warnings.append(
                f"{_name_layers(self.thawed)} was made trainable after fit() had compiled its "
                "step, which does not train it: compile the model again"
            )
        return tuple(warnings)


UP_TO_DATE = Outdated()


def find_outdated(model, handed, optimizer):
    """Finds how the step that `fit` compiled differs from `train_step` run now.

    Both a variable's `trainable` flag and what the steps do are compared: what
    `train_step` leaves out on purpose, and a variable that an optimizer does not
    move, differ in one of them alone.

    Args:
        model: The model.
        handed: The Keras variables of which `train_step`, run now, hands a
            gradient to the optimizer.
        optimizer: That optimizer.

    Returns:
        An `Outdated`.
    """
    backend = backends.current()
    known = _variables_of(optimizer)
    present = {id(variable): variable for variable in handed}
    candidates = {**known, **present}
    trained_sets = _find_trained(model, candidates, backend)
    if not trained_sets or any(trained == set(present) for trained in trained_sets):
        return UP_TO_DATE
    always = set.intersection(*trained_sets)
    ever = set.union(*trained_sets)
    frozen = []
    for key, variable in candidates.items():
        if key in always and key not in present and not variable.trainable:
            frozen.append(variable.path)
    thawed, missed = [], []
    for number, variable in enumerate(keras_internals.trained_weights(model)):
        is_trained_before = id(variable) in ever or id(variable) in known
        if id(variable) in present and not is_trained_before:
            thawed.append(variable.path)
            missed.append(number)
    return Outdated(tuple(frozen), tuple(thawed), frozenset(missed))


def _find_trained(model, candidates, backend):
    """Returns, for each trace of the compiled step, the ids of the variables that it writes to."""
    handles = {key: backend.handle_ids(variable) for key, variable in candidates.items()}
    trained_sets = []
    for written in backend.find_written_handles(getattr(model, "train_function", None)):
        trained_sets.append({key for key, own in handles.items() if own & written})
    return trained_sets


def _variables_of(optimizer):
    """Returns a dict of ids to the variables that an optimizer was built for, and keeps to."""
    inner = getattr(optimizer, "inner_optimizer", None) or optimizer
    variables = getattr(inner, "_trainable_variables", None) or ()
    return {id(variable): variable for variable in variables}


def _name_layers(paths):
    """Returns the layers of some variables: `"a, b, c and 3 more"`."""
    layers = list(dict.fromkeys(path.rpartition("/")[0] or path for path in paths))
    named = ", ".join(layers[:_MOST_NAMED])
    rest = len(layers) - _MOST_NAMED
    return f"{named} and {rest} more" if rest > 0 else named
