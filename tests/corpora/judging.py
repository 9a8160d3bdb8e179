"""Checks one case of the corpora."""

import contextlib
import importlib.util
from unittest import mock

import keras
import pytest

import gradhooks
from gradhooks.checking import pinpoint
from gradhooks.model import oracle


def check_case(case, seed):
    """Returns the report on a case of the corpora; skips what needs a package that is missing."""
    return check_case_with_model(case, seed)[0]


def check_case_with_model(case, seed):
    """Returns `(report, (model, x, y, sample_weight))` for a case, with what was checked."""
    if case.needs and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"{case.name} needs {case.needs}")
    keras.utils.clear_session(free_memory=False)
    model, x, y, *sample_weight = case.build(seed)
    if not model.built:
        model(x)  # what the error message of `check_gradients` asks for
    weights = sample_weight[0] if sample_weight else None
    report = gradhooks.check_gradients(
        model, x, y, sample_weight=weights, seed=seed, **case.options
    )
    return report, (model, x, y, weights)


@contextlib.contextmanager
def compiled_once():
    """While open, models of one case share a compiled check.

    Each puts its weights, state and batch into the first.

    Tracing is most of what a small check costs, and a check that is compiled
    once and asked again and again is what training sees. A model that does not
    fit into the first one is compiled for itself.
    """
    with mock.patch.object(oracle, "ModelOracle", _CompiledOnce(oracle.ModelOracle)):
        yield


@contextlib.contextmanager
def verdicts_alone():
    """While open, no check looks for the place of a fault, which takes a trace of its own.

    For tests that ask for the verdicts of many checks; `tests/corpora/test_culprits.py`
    asks for the places.
    """
    with mock.patch.object(pinpoint, "find_culprit", return_value=None):
        yield


class _CompiledOnce:
    def __init__(self, make):
        self._make, self._kept, self._watched = make, None, None

    def __call__(self, objective, batch, precision="auto", watch=None, **options):
        watched = watch.__self__ if watch else None
        if self._kept is None or not self._kept.rebind(objective.model, batch):
            self._kept = self._make(objective, batch, precision, watch=watch, **options)
            self._watched = watched
        elif watched is not None:
            watched.take_calls_of(self._watched)
        return self._kept


def said(report):
    """What a report says: its verdict, and which variables failed why."""
    return report.verdict, {(c.path, c.reason) for c in report.failures}


def is_named(case, report):
    """Whether a mutant's report names the right variable, for an acceptable reason."""
    named = [d.path for d in report.diagnoses if d.is_leading]
    reasons = {str(c.reason) for c in report.failures}
    return any(case.culprit in path for path in named) and (
        not case.reasons or bool(reasons & set(case.reasons))
    )
