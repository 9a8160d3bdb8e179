"""Checks one entry, and says which verdicts it may get."""

import keras

import gradhooks
from gradhooks import Verdict
from tests.corpora.unproved.building import HEALTHY


def allowed(entry, factor):
    """Returns the verdicts that an entry may get at a factor.

    No right gradient fails, no wrong one passes.
    """
    decided = Verdict.PASS if factor == HEALTHY else Verdict.FAIL
    return (decided,) if entry.is_measurable else (decided, Verdict.INCONCLUSIVE)


def check_entry(entry, factor):
    """Returns the report on an entry at a factor."""
    keras.utils.clear_session(free_memory=False)
    model, x, y, options = entry.build(factor)
    return gradhooks.check_gradients(model, x, y, **options)
