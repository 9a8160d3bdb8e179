"""Every planted defect caught and named, no healthy model accused; prints the two numbers.

`python -m pytest -m sweep` does the same at ten seeds. A case of these corpora
that fails is a release blocker: find its cause, loosen nothing.
"""

import json
import os
import pathlib

import pytest

from gradhooks import Verdict
from tests import innocents, judging, mutants

SEEDS = range(10)
# Verdicts that a case writes for the summary, one file per case, so that worker processes can share a directory.
TALLY = os.environ.get("GRADHOOKS_TALLY")


def seeds(cases):
    """Every case at one seed by default, at the other nine in the sweep; large architectures count as slow."""
    for case in cases:
        yield pytest.param(case, 0, id=f"{case.name}-0", marks=[pytest.mark.slow] if case.large else [])
        for seed in SEEDS[1:]:
            yield pytest.param(case, seed, id=f"{case.name}-{seed}", marks=pytest.mark.sweep)


def tally(kind, case, seed, report, ok):
    """Notes one verdict for `python -m tests.tally`."""
    if TALLY:
        probes = sum(c.term == "total" for c in report.comparisons)
        line = {
            "kind": kind, "case": case.name, "seed": seed, "ok": ok, "verdict": report.verdict.name,
            "rung": report.precision.rung, "evaluations": report.evaluations, "probes": probes,
            "relative_difference": str(report.relative_difference.get("total")),
        }  # fmt: skip
        pathlib.Path(TALLY, f"{kind}-{case.name}-{seed}.json").write_text(json.dumps(line))


@pytest.mark.parametrize(("case", "seed"), seeds(mutants.CASES))
def test_a_mutant_is_caught_and_named(case, seed):
    report = judging.judged(case, seed)
    ok = report.verdict is Verdict.FAIL and judging.is_named(case, report)
    tally("mutant", case, seed, report, ok)
    assert report.verdict is Verdict.FAIL, f"{case.note}\n{report}"
    assert judging.is_named(case, report), f"the culprit is {case.culprit}\n{report}"


@pytest.mark.parametrize(("case", "seed"), seeds(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named(case, seed):
    report = judging.judged(case, seed)
    assert report.verdict is not Verdict.FAIL, report
    assert any("no loss reaches" in note and case.culprit in note for note in report.notes), report


@pytest.mark.parametrize(("case", "seed"), seeds([*innocents.CASES, *innocents.TWINS]))
def test_an_innocent_is_not_accused(case, seed):
    report = judging.judged(case, seed)
    ok = report.verdict is not Verdict.FAIL
    tally("innocent", case, seed, report, ok)
    assert ok, f"{case.note}\n{report}"
