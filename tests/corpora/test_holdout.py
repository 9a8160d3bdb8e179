"""The hold-out: what the rule says of cases that nobody looks at while it is tuned."""

import pytest

from gradhooks import Verdict
from tests.corpora import culprits, holdout, judging

pytestmark = [pytest.mark.holdout, pytest.mark.usefixtures("unoptimized")]


def ids(case):
    return case.name


def test_there_are_forty_of_each():
    assert len(holdout.WRONG) == len(holdout.HEALTHY) == 40


@pytest.mark.parametrize("case", holdout.WRONG, ids=ids)
def test_a_wrong_gradient_fails_and_is_named(case):
    report, (model, *_) = judging.check_case_with_model(case, 0)
    assert report.verdict is Verdict.FAIL, report
    assert judging.is_named(case, report), f"{case.culprit} is wrong\n{report}"
    if report.culprit is not None:
        assert report.culprit.kind == "layer"
        assert report.culprit.path in culprits.planted_layers(model), report


@pytest.mark.parametrize("case", holdout.HEALTHY, ids=ids)
def test_a_right_gradient_does_not_fail(case):
    report = judging.check_case(case, 0)
    assert report.verdict is not Verdict.FAIL, report
