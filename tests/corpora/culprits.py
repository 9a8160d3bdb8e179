"""Whether a report on a mutant names the place of its defect, and no healthy one."""

from tests.corpora.mutants import planted
from tests.localization.judging import NONE, RIGHT, WRONG, found_in, paths_of_layers

__all__ = ["NONE", "RIGHT", "WRONG", "describe", "expected_place", "judge", "planted_layers"]


def expected_place(case, model):
    """Returns `(kind, path)` of the defect of a mutant; None where it cannot be told.

    The path of a layer is what it is in the model that has been checked.
    """
    if case.place is None:
        return None
    kind, name = ("layer", case.place) if isinstance(case.place, str) else case.place
    if kind not in ("layer", "regularizer"):
        return kind, name
    (path,) = paths_of_layers(model, name)
    return kind, path


def judge(case, report, model):
    """Returns `RIGHT`, `NONE` (nothing is named) or `WRONG` (something healthy is)."""
    found = found_in(report)
    expected = expected_place(case, model)
    if found is None:
        return RIGHT if expected is None else NONE
    return RIGHT if found[:2] == expected else WRONG


def describe(case, report, model):
    """Returns what is named, and what should be, in words."""
    found = found_in(report)
    said = "nothing" if found is None else " ".join(map(str, found))
    expected = expected_place(case, model)
    return f"{said} (the defect: {'untold' if expected is None else ' '.join(expected)})"


def planted_layers(model):
    """Returns the paths of the layers into which a function has been planted."""
    paths = []
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            is_place = name == "planted" or name.startswith("on_")
            if is_place and value is not planted.honest:
                paths.append(layer.path)
    return paths
