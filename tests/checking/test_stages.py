"""Which stages a check tells of while it works."""

import numpy as np
import pytest

import gradhooks
from gradhooks.checking import run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.settings import Settings
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.stages import Stage
from tests import models

HEALTHY = [Stage.GRADIENT, Stage.NOISE, Stage.PARAMETERS, Stage.OPTIMIZER]


@pytest.mark.parametrize(("factor", "stages"), [(2.0, HEALTHY), (2.2, [*HEALTHY, Stage.CULPRIT])])
def test_a_check_tells_its_stages_in_their_order(factor, stages):
    oracle = FunctionOracle(lambda p: float(p @ p), lambda p: factor * p, np.ones(3))
    told = []
    report = run.check(oracle, Settings(), tell=told.append)
    assert told == stages
    assert (report.verdict is Verdict.FAIL) == (Stage.CULPRIT in stages)


def test_a_check_of_a_model_begins_with_its_trace():
    model, x, y = models.mlp()
    told = []
    check = gradhooks.GradientCheck(x, y, samples=4)
    check._checker.take_batch()
    check._checker.check(model, 0, tell=told.append)
    assert told == [Stage.TRACING, *HEALTHY]


def test_stages_are_counted():
    assert [stage.number for stage in Stage] == [1, 2, 3, 4, 5, 6]
    assert [stage.count for stage in Stage] == [5, 5, 5, 5, 5, 6]
