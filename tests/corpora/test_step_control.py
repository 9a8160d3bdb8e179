"""Step control changes what a check costs and never what it says.

With it, most probes are decided by one quotient at a step chosen for them. Without
it, every probe is measured at the whole sequence of steps. Both must give the
same verdict on every case of the corpora, and fail the same variables.
"""

import contextlib
from unittest import mock

import pytest

from gradhooks.checking import step_control
from gradhooks.verdicts import judge
from tests.corpora import controls, judging, mutants

CASES = [*mutants.CASES, *mutants.TRAIN_STEPS, *controls.CASES, *controls.TWINS]
# Every so many of the cases that are quick enough is in the default run.
EVERY = 20


def cases():
    """All cases; a sample of the small ones without the mark of the sweep."""
    small = [c.name for c in CASES if not (c.large or c.chaotic or c.needs)]
    sample = set(small[::EVERY])
    for case in CASES:
        marks = [] if case.name in sample else [pytest.mark.sweep]
        yield pytest.param(case, id=case.name, marks=marks)


@contextlib.contextmanager
def without_step_control():
    """While open, no single quotient decides, and no step is chosen by what others showed."""
    with (
        mock.patch.object(judge, "is_accepted", return_value=False),
        mock.patch.object(
            step_control, "refine_steps", lambda oracle, at, measured, *others: measured
        ),
    ):
        yield


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", list(cases()))
def test_step_control_changes_no_verdict(case):
    with judging.verdicts_alone():
        controlled = judging.check_case(case, 0)
        with without_step_control():
            uncontrolled = judging.check_case(case, 0)
    assert judging.said(uncontrolled) == judging.said(controlled)
    assert uncontrolled.evaluations >= controlled.evaluations
