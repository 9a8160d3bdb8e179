"""Checks a localization case, and compares the place that is named with the place of the fault."""

import dataclasses

import keras

import gradhooks
from tests.corpora.mutants import planted
from tests.localization.building import ANY_CALL

RIGHT, NONE, WRONG = "right", "none", "WRONG"
# Kinds whose place is a layer of the model, named by its path.
_IN_A_LAYER = ("layer", "regularizer")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check said of a case.

    Args:
        report: The report.
        expected: Every `(kind, path)` that may be named.
        found: `(kind, path, call)` as the report names it; None for nothing.
        word: `RIGHT`; `NONE`, nothing is named; or `WRONG`, something healthy is.
    """

    report: object
    expected: tuple
    found: tuple | None
    word: str

    @property
    def verdict(self):
        return self.report.verdict


def check(case, seed):
    """Returns the `Outcome` of a case."""
    report, model = _check(case, seed)
    expected = places(case, model)
    found = found_in(report)
    return Outcome(report, expected, found, compare(case, expected, found))


def check_twin(case, seed):
    """Returns the report on a case without its fault."""
    with planted.healthy():
        return _check(case, seed)[0]


def _check(case, seed):
    keras.utils.clear_session(free_memory=False)
    model, x, y, *more = case.build(seed)
    options = {**case.options, **(more[0] if more else {})}
    return gradhooks.check_gradients(model, x, y, seed=seed, **options), model


def found_in(report):
    """Returns `(kind, path, call)` of the place that a report names; None for none."""
    place = getattr(report, "culprit", None)
    return None if place is None else (place.kind, place.path, place.call)


def places(case, model):
    """Returns every `(kind, path)` that may be named; a layer's path is what it is by now."""
    named = [(case.kind, name) for name in case.names]
    expected = []
    for kind, name in (*named, *case.others):
        paths = paths_of_layers(model, name) if kind in _IN_A_LAYER else [name]
        expected += [(kind, path) for path in paths]
    assert expected, f"{case.name}: the model has no layer {case.at}"
    return tuple(expected)


def paths_of_layers(model, name):
    """Returns the paths of the layers of that name, or whose path ends so."""
    paths = [layer.path or layer.name for layer in model._flatten_layers()]
    return [path for path in paths if path == name or path.endswith(f"/{name}")]


def compare(case, expected, found):
    """Returns `RIGHT`, `NONE` or `WRONG`."""
    if found is None:
        return NONE
    kind, path, call = found
    is_right_call = case.call == ANY_CALL or call == case.call
    return RIGHT if (kind, path) in expected and is_right_call else WRONG
