"""A gradient that is wrong everywhere by a millionth fails in float64; a right one passes.

`python -m tools.small_errors` prints how many, at smaller errors too.
"""

from unittest import mock

import pytest

from gradhooks import Verdict
from gradhooks.model.oracle import ModelOracle
from tests import small_errors
from tests.corpora import judging

MILLIONTH = 1e-6
# How many of ten seeds of a kind must fail, and how many of all hundred networks.
ENOUGH_OF_A_KIND, ENOUGH_OF_ALL = 9, 98
# Of which share of the derivatives of smooth networks a kink may be said.
FALSE_KINKS = 0.01

signed = pytest.mark.parametrize("excess", [MILLIONTH, -MILLIONTH])


@pytest.fixture(scope="module", params=small_errors.KINDS, ids=str)
def kind(request):
    """A kind of network, which is compiled once for the tests at one seed."""
    with judging.compiled_once():
        yield request.param


def test_an_error_of_a_millionth_fails(kind):
    report = small_errors.check(kind, 0, MILLIONTH)
    assert report.verdict is Verdict.FAIL, report
    assert report.precision.level == "float64"


def test_the_healthy_twin_passes(kind):
    report = small_errors.check(kind, 0, 0.0)
    assert report.verdict is Verdict.PASS, report
    assert report.precision.level == "float64"


def test_the_error_is_everywhere(kind):
    """Doubled, it shows in every parameter whose derivative is not zero."""
    # One by one: of pools that are clearly wrong only one parameter of each variable is measured.
    with mock.patch.object(ModelOracle, "pooling_groups", ()):
        report = small_errors.check(kind, 0, 1.0, samples=12)
    ratios = []
    for c in report.comparisons:
        if c.index is not None and abs(c.numeric) > 1e3 * c.error:
            ratios.append(c.analytic / c.numeric)
    assert len(ratios) > 5
    assert ratios == pytest.approx([2.0] * len(ratios), rel=1e-2)


@pytest.mark.sweep
@pytest.mark.parametrize("each", small_errors.KINDS, ids=str)
@signed
def test_an_error_of_a_millionth_fails_at_ten_seeds(each, excess):
    found = small_errors.outcomes(each)[excess]
    missed = [one for one in found if one.verdict is not Verdict.FAIL]
    texts = "\n".join(one.text for one in missed)
    assert len(found) - len(missed) >= ENOUGH_OF_A_KIND, texts
    if each.name not in small_errors.KINKED:
        assert not any(one.is_called_a_kink for one in missed), texts


@pytest.mark.sweep
@pytest.mark.parametrize("each", small_errors.KINDS, ids=str)
def test_the_healthy_twin_passes_at_ten_seeds(each):
    found = small_errors.outcomes(each)[0.0]
    assert {one.verdict for one in found} == {Verdict.PASS}, [one.text for one in found]


@pytest.mark.sweep
@signed
def test_nearly_all_of_a_hundred_fail(excess):
    found = [one for each in small_errors.KINDS for one in small_errors.outcomes(each)[excess]]
    assert len(found) == 100
    assert sum(one.verdict is Verdict.FAIL for one in found) >= ENOUGH_OF_ALL


@pytest.mark.sweep
def test_no_kink_is_said_of_smooth_networks():
    compared = kinks = 0
    for each in small_errors.KINDS:
        if each.name not in small_errors.KINKED:
            for found in small_errors.outcomes(each).values():
                compared += sum(one.compared for one in found)
                kinks += sum(one.kinks for one in found)
    assert kinks <= FALSE_KINKS * compared
