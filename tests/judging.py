"""Puts one case of the corpora before the judge."""

import importlib.util

import keras
import pytest

import gradhooks


def judged(case, seed):
    """Returns the report on a case of the corpora; skips what needs a package that is missing."""
    return examined(case, seed)[0]


def examined(case, seed):
    """Returns the report on a case and what was examined, `(report, (model, x, y, sample_weight))`."""
    if case.needs and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"{case.name} needs {case.needs}")
    keras.utils.clear_session()
    model, x, y, *sample_weight = case.build(seed)
    if not model.built:
        model(x)  # what the error message of `check_gradients` asks for
    weights = sample_weight[0] if sample_weight else None
    report = gradhooks.check_gradients(model, x, y, sample_weight=weights, seed=seed, **case.options)
    return report, (model, x, y, weights)


def is_named(case, report):
    """Whether a mutant's report accuses the right variable, for an acceptable reason."""
    accused = [d.path for d in report.diagnoses if d.is_culprit]
    reasons = {str(c.reason) for c in report.failures}
    return any(case.culprit in path for path in accused) and (not case.reasons or bool(reasons & set(case.reasons)))
