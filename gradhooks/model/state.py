"""The values of Keras variables that a gradient may depend on, as arrays: read and written back."""

import keras

from gradhooks import backends
from gradhooks.model import keras_internals
from gradhooks.reports.errors import bad_input

# The groups of values.
VARIABLES, METRICS, OPTIMIZER, SEED = "variables", "metrics", "optimizer", "seed"
_ADVICE = (
    "Try the code that built and compiled the model for the check, with the same layers trainable."
)


def read_state(model):
    """Returns the values of a model's variables, of its optimizer's, and of Keras' global seed.

    Args:
        model: A built `keras.Model`, or a layer.

    Returns:
        dict of lists of pairs (path, array) by group.
    """
    groups = {}
    for group, variables in _variables_of(model).items():
        values = backends.current().snapshot(variables)
        arrays = [keras.ops.convert_to_numpy(value) for value in values]
        paths = [variable.path for variable in variables]
        groups[group] = list(zip(paths, arrays, strict=True))
    return groups


def write_state(model, groups):
    """Writes values to a model of the same kind.

    Args:
        model: A built `keras.Model`, or a layer.
        groups: As `read_state` returns them.

    Raises:
        BadInputError: If the model has other variables; nothing is written then.
    """
    variables = _variables_of(model)
    # Before anything is made.
    _check_alike(variables[VARIABLES], groups.get(VARIABLES, ()), VARIABLES)
    optimizer = getattr(model, "optimizer", None)
    wanted = len(groups.get(OPTIMIZER, ()))
    if optimizer is not None and not optimizer.built and wanted > len(variables[OPTIMIZER]):
        optimizer.build(model.trainable_variables)
        variables = _variables_of(model)
    if groups.get(SEED) and not variables[SEED]:
        keras_internals.make_global_seeds()
        variables = _variables_of(model)
    pairs = []
    # Metrics have variables once they have seen a batch; a loss can only read those it has itself.
    given = groups.get(METRICS, ())
    known = list(zip(_take_alike(variables[METRICS], given), given, strict=False))
    if len(known) == len(given) and all(_is_alike(own, array) for own, (_, array) in known):
        pairs += known
    for group in (VARIABLES, OPTIMIZER, SEED):
        given = groups.get(group, ())
        if group == OPTIMIZER:
            _check_loss_scale(optimizer, given)
            # One that is built has more. No check applies them.
            variables[group] = _take_alike(variables[group], given)
        if group != SEED or given:
            _check_alike(variables[group], given, group)
            pairs += zip(variables[group], given, strict=True)
    for variable, (_, array) in pairs:
        variable.assign(array)


def trained_numbers(model):
    """Returns which of a model's variables are trained, by number: a tuple."""
    trained = {id(variable) for variable in keras_internals.trained_weights(model)}
    own = enumerate(_variables_of(model)[VARIABLES])
    return tuple(number for number, variable in own if id(variable) in trained)


def check_trained(model, numbers):
    """Raises a `BadInputError` if other variables of a model are trained than those given."""
    variables = _variables_of(model)[VARIABLES]
    for number in sorted(set(numbers) ^ set(trained_numbers(model))):
        path = variables[number].path if number < len(variables) else f"number {number}"
        is_trained = number not in numbers
        raise bad_input(
            "What is trained must be what was trained in the check.",
            "model",
            f"{path} {'trained' if is_trained else 'frozen'}",
            f"it {'frozen' if is_trained else 'trained'}",
            _ADVICE,
        )


def _variables_of(model):
    """Returns the Keras variables whose values decide the gradient, by group."""
    optimizer = getattr(model, "optimizer", None)
    seeds = keras_internals.global_seeds()
    return {
        VARIABLES: list(model.variables),
        METRICS: list(model.metrics_variables) if hasattr(model, "metrics_variables") else [],
        OPTIMIZER: list(optimizer.variables) if optimizer is not None else [],
        SEED: [] if seeds is None else [seeds.state],
    }


def _take_alike(variables, given):
    """Returns the variables that given arrays fit, in their order; others may lie between.

    As many as there are arrays are taken as they are: what an optimizer keeps of each weight has
    the name of a layer, which Keras may have numbered otherwise.
    """
    if len(variables) == len(given):
        return list(variables)
    left, found = list(variables), []
    for path, array in given:
        name = path.rpartition("/")[2]
        while left:
            variable = left.pop(0)
            if variable.path.rpartition("/")[2] == name and _is_alike(variable, array):
                found.append(variable)
                break
    return found


def _is_alike(variable, array):
    """Whether a variable has the shape and dtype of an array."""
    return (tuple(variable.shape), str(variable.dtype)) == (array.shape, str(array.dtype))


def _check_loss_scale(optimizer, given):
    """Raises a `BadInputError` if an optimizer has a loss scale that it had not in the check."""
    has_scale = any(path.endswith("dynamic_scale") for path, _ in given)
    if getattr(optimizer, "built", False) and hasattr(optimizer, "dynamic_scale") and not has_scale:
        raise bad_input(
            "The loss scale must be that of the check.",
            "model",
            "an optimizer whose loss scale has been adapted",
            "one that has applied no gradient yet",
            _ADVICE,
        )


def _check_alike(variables, given, group):
    """Raises a `BadInputError` unless variables have the shapes and dtypes of given arrays."""
    of = "its optimizer's variables" if group == OPTIMIZER else "its variables"
    if len(variables) != len(given):
        raise bad_input(
            "The values of a check fit a model of the same kind.",
            "model",
            f"{len(variables)} values for {of}",
            f"the {len(given)} of the check",
            _ADVICE,
        )
    for variable, (path, array) in zip(variables, given, strict=True):
        if not _is_alike(variable, array):
            raise bad_input(
                "The values of a check fit a model of the same kind.",
                "model",
                f"{variable.path} of shape {tuple(variable.shape)} and dtype {variable.dtype}",
                f"the shape {array.shape} and dtype {array.dtype} of {path} in the check",
                _ADVICE,
            )
