"""Pools change what a check costs: with and without them the same is found.

That is, the corpora get the same verdicts, and one wrong entry of the gradient among
the sampled ones is found in both ways.
"""

import contextlib
from unittest import mock

import numpy as np
import pytest

from gradhooks import Verdict
from gradhooks.model.compilation import LossGradients
from gradhooks.model.oracle import ModelOracle
from tests import small_errors
from tests.corpora import controls, judging, mutants

CASES = [*mutants.CASES, *controls.CASES, *controls.TWINS]
# Every so many of the cases that are quick enough is in the default run.
EVERY = 24
SEEDS = range(10)
# By what the one wrong entry is multiplied.
ERRORS = {"a millionth": 1 + 1e-6, "a ten-thousandth": 1.0001, "sign": -1.0}


def cases():
    """All cases; a sample of the small ones without the mark of the sweep."""
    small = [c.name for c in CASES if not (c.large or c.chaotic or c.needs)]
    sample = set(small[::EVERY])
    for case in CASES:
        marks = [] if case.name in sample else [pytest.mark.sweep]
        yield pytest.param(case, id=case.name, marks=marks)


def without_pools():
    """While open, every parameter is measured by itself."""
    return mock.patch.object(ModelOracle, "pooling_groups", ())


@contextlib.contextmanager
def wrong_entry(position, factor):
    """While open, backpropagation multiplies one entry of the gradient by a factor."""
    original = ModelOracle.gradients

    def gradients(self, point):
        found = original(self, point)
        terms = {}
        for name, gradient in found.terms.items():
            terms[name] = np.array(gradient)
            if name != "penalty":
                terms[name][position] *= factor
        return LossGradients(terms, found.connected)

    with mock.patch.object(ModelOracle, "gradients", gradients):
        yield


def sampled(report):
    """The sampled parameters of a healthy check that have a gradient and agree."""
    agreeing = [c for c in report.comparisons if c.index is not None and c.term == "total"]
    return [c.position for c in agreeing if c.verdict is Verdict.PASS]


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", list(cases()))
def test_pools_change_no_verdict(case):
    with judging.verdicts_alone():
        pooled = judging.check_case(case, 0)
        with without_pools():
            single = judging.check_case(case, 0)
    assert judging.said(pooled) == judging.said(single)


def find_entries(kind, seed, name):
    """Returns whether one wrong entry is found with pools, and without them."""
    healthy = small_errors.check(kind, seed, 0.0)
    rng = np.random.default_rng([seed, len(name)])
    position = int(rng.choice(sampled(healthy)))
    found = []
    for context in (contextlib.nullcontext, without_pools):
        with judging.verdicts_alone(), wrong_entry(position, ERRORS[name]), context():
            report = small_errors.check(kind, seed, 0.0)
        found.append(position in {c.position for c in report.failures if c.index is not None})
    return tuple(found)


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("kind", small_errors.KINDS, ids=str)
def test_one_wrong_entry_is_found_among_pools(kind):
    with judging.compiled_once():
        assert all(find_entries(kind, 0, "a ten-thousandth"))


@pytest.mark.sweep
@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("kind", small_errors.KINDS, ids=str)
@pytest.mark.parametrize("name", ERRORS)
def test_one_wrong_entry_is_found_as_often_with_pools(name, kind):
    with judging.compiled_once():
        found = [find_entries(kind, seed, name) for seed in SEEDS]
    assert sum(pooled for pooled, _ in found) >= sum(single for _, single in found), found
