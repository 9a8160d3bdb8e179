"""What counts as proved: numeric measurements of the total loss, and nothing else."""

import dataclasses

import numpy as np
import pytest

from gradhooks.reports import records
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, GradientComparison
from gradhooks.verdicts import judge, proof

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def compared(
    path="w", term="total", judged=PASS, reason=Reason.AGREES, index=(0,), position=0, **numbers
):
    values = {"analytic": 1.0, "numeric": 1.0, "error": 1e-9} | numbers
    return DerivativeComparison(
        path,
        index,
        term,
        values["analytic"],
        values["numeric"],
        values["error"],
        1e-6,
        0.0,
        judged,
        reason,
        position=position,
    )


TRAINED = GradientComparison("w", 1.0, 1.0, 0.0, 0.0, PASS, Reason.AGREES)
NOISE = compared("v", judged=OPEN, reason=Reason.NOISE, error=9.0)
KINK = compared("v", judged=OPEN, reason=Reason.KINK)
VACUOUS = compared("v", judged=OPEN, reason=Reason.VACUOUS)


@pytest.mark.parametrize(
    ("comparisons", "expected"),
    [
        ([compared()], PASS),
        ([compared(index=None)], PASS),
        ([compared(records.EVERYTHING, index=None)], PASS),
        ([TRAINED], OPEN),
        ([TRAINED] * 40 + [NOISE], OPEN),
        ([TRAINED] * 40 + [VACUOUS], OPEN),
        ([compared(), VACUOUS, TRAINED], PASS),
        ([compared(), NOISE], OPEN),
        ([compared(), KINK], PASS),
        ([compared(), NOISE, NOISE], OPEN),
        ([compared(), KINK, KINK] + [TRAINED] * 40, OPEN),
        ([compared(), compared(judged=FAIL, reason=Reason.MISMATCH)], FAIL),
        # What drowns does not count where the variable as a whole was measured; what sits on a
        # corner does.
        ([compared("v", index=None), *[NOISE] * 9], PASS),
        ([compared("v", index=None), *[KINK] * 9], OPEN),
    ],
)
def test_the_verdict_on_a_check_needs_a_measurement_that_passes(comparisons, expected):
    assert judge.judge_check(comparisons)[0] is expected


def test_what_is_undecided_gives_the_reason():
    assert judge.judge_check([TRAINED, NOISE]) == (OPEN, Reason.NOISE)
    assert judge.judge_check([TRAINED]) == (OPEN, Reason.NOTHING_SAMPLED)
    assert judge.judge_check([]) == (OPEN, Reason.NOTHING_SAMPLED)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (compared(position=7), {7}),
        (compared(position=7, index=None), {7}),
        (compared(position=7, term="data"), set()),
        (compared(position=7, term="penalty"), set()),
        (dataclasses.replace(TRAINED, position=7), set()),
        (compared(records.EVERYTHING, position=0, index=None), set()),
        (dataclasses.replace(NOISE, position=7), set()),
        (compared(position=7, judged=FAIL, reason=Reason.MISMATCH), set()),
    ],
)
def test_coverage_counts_what_was_proved(comparison, expected):
    assert proof.positions_with_proof([comparison]) == expected


def test_vacuous_means_that_both_derivatives_are_zero():
    levels = proof.zero_levels({"total": np.array([3.0, -100.0, np.inf])}, "float64")
    assert levels == {"total": pytest.approx(1e5 * 2.0**-52)}
    assert (
        10 * levels["total"] < proof.zero_levels({"total": np.array([-100.0])}, "float32")["total"]
    )
    small, large = (
        dataclasses.replace(VACUOUS, analytic=factor * levels["total"]) for factor in (0.5, -2.0)
    )
    changed = proof.withdraw_false_zeros([small, large, KINK, compared()], levels)
    assert [c.reason for c in changed] == [Reason.VACUOUS, Reason.NOISE, Reason.KINK, Reason.AGREES]
    assert [c.verdict for c in changed] == [OPEN, OPEN, OPEN, PASS]


def test_variables_without_proof_are_listed():
    found = proof.paths_without_proof(
        [compared(), NOISE, KINK, VACUOUS, TRAINED, compared("u", judged=OPEN, reason=Reason.KINK)]
    )
    assert found == ["u", "v"]
    assert proof.paths_without_proof([NOISE, compared("v", index=None)]) == []


@pytest.mark.parametrize(
    ("size", "expected"), [(1e-12, PASS), (1e-8, PASS), (1e-5, OPEN), (1.0, OPEN)]
)
def test_noise_may_hide_what_float32_would_round_away(size, expected):
    hidden = compared(
        "v", judged=OPEN, reason=Reason.NOISE, analytic=size, numeric=0.0, error=9.0 * size
    )
    assert judge.judge_check([compared(), hidden])[0] is expected
    assert proof.paths_without_proof([compared(), hidden]) == ["v"]
