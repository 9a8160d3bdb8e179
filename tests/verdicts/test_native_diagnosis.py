"""What training loses to its own precision, in words, and where it begins: on made up numbers."""

import math

import ml_dtypes
import numpy as np
import pytest

from gradhooks import Verdict
from gradhooks.numerics import departure
from gradhooks.numerics.departure import Call, Departure, Location, Summary
from gradhooks.numerics.layout import Layout
from gradhooks.verdicts import native_diagnosis, optimizer_comparison
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient

FINE, ZERO, BAD = (
    Summary(1.0, 1.0, 2.0, 5.0),
    Summary(1.0, 0.0, 0.0, 0.0),
    Summary(0.5, 1.0, 2.0, 5.0),
)
HUGE, SPARSE = Summary(1.0, 1.0, 1e6, 1e6), Summary(1.0, 0.5, 2.0, 5.0)


def network(**changes):
    """A model of two layers, the second of which holds a third; `changes` replace its tensors."""
    order = [("model/a", 1), ("model/b/c", 3), ("model/b", 2), ("model", 0)]
    return [
        Call(path, entered, *((changes.get(f"{path.split('/')[-1]}_{end}", FINE),) for end in ENDS))
        for path, entered in order
    ]


ENDS = ("inputs", "outputs", "input_slopes", "output_slopes")
BELOW_B = {
    "b_input_slopes": BAD,
    "a_output_slopes": BAD,
    "a_input_slopes": BAD,
    "model_input_slopes": BAD,
}
# (what, changes in few digits, in many, losses, place, layer, whether it has vanished)
TABLE = [
    ("nothing", {}, {}, (1.0, 1.0), None, "", False),
    (
        "a layer",
        {"a_outputs": BAD, "b_inputs": BAD, "b_outputs": BAD},
        {},
        (1.0, 1.0),
        Location.CALL,
        "model/a",
        False,
    ),
    (
        "zeros",
        {"a_outputs": ZERO, "b_inputs": ZERO},
        {},
        (1.0, 1.0),
        Location.CALL,
        "model/a",
        True,
    ),
    ("zeros everywhere", {"a_outputs": ZERO}, {"a_outputs": ZERO}, (1.0, 1.0), None, "", False),
    ("bad everywhere", {"a_outputs": BAD}, {"a_outputs": BAD}, (1.0, 1.0), None, "", False),
    (
        "a layer within",
        {"c_outputs": BAD, "b_outputs": BAD},
        {},
        (1.0, 1.0),
        Location.CALL,
        "model/b/c",
        False,
    ),
    (
        "around one",
        {"b_outputs": BAD, "model_outputs": BAD},
        {},
        (1.0, 1.0),
        Location.CALL,
        "model/b",
        False,
    ),
    (
        "between",
        {"c_inputs": BAD, "c_outputs": BAD, "b_outputs": BAD},
        {},
        (1.0, 1.0),
        Location.BETWEEN,
        "model/b/c",
        False,
    ),
    (
        "inputs",
        {"a_inputs": BAD, "a_outputs": BAD},
        {"model_inputs": HUGE},
        (1.0, 1.0),
        Location.INPUT,
        "",
        False,
    ),
    ("the loss", {}, {}, (math.nan, 1.0), Location.LOSS, "", False),
    ("the loss vanishes", {}, {}, (0.0, 1e-9), Location.LOSS, "", True),
    (
        "its slope",
        {"model_output_slopes": BAD} | BELOW_B,
        {},
        (1.0, 1.0),
        Location.LOSS_SLOPE,
        "",
        False,
    ),
    (
        "backwards",
        BELOW_B | {"c_input_slopes": BAD},
        {},
        (1.0, 1.0),
        Location.BACKWARD,
        "model/b/c",
        False,
    ),
    ("backwards, around", BELOW_B, {}, (1.0, 1.0), Location.BACKWARD, "model/b", False),
    (
        "backwards, the first",
        {"a_input_slopes": BAD},
        {},
        (1.0, 1.0),
        Location.BACKWARD,
        "model/a",
        False,
    ),
    (
        "on the way down",
        {"a_output_slopes": BAD},
        {},
        (1.0, 1.0),
        Location.REACHED,
        "model/a",
        False,
    ),
    ("some of it", {"a_input_slopes": SPARSE}, {}, (1.0, 1.0), Location.BACKWARD, "model/a", True),
    ("no slope", {"a_input_slopes": None}, {"a_input_slopes": None}, (1.0, 1.0), None, "", False),
]


@pytest.mark.parametrize(
    ("what", "few", "many", "losses", "place", "layer", "has_vanished"),
    TABLE,
    ids=lambda v: str(v)[:20],
)
def test_the_first_place_is_found(what, few, many, losses, place, layer, has_vanished):
    found = departure.find_departure(network(**few), network(**many), losses, 65504.0)
    if place is None:
        assert found is None
        return
    assert (found.location, found.layer, found.has_vanished) == (place, layer, has_vanished)
    words = native_diagnosis.diagnose(LAYOUT, lost(0.0), "float16", losses, 1.0, found)[0].sentence
    assert layer in words
    assert "float16" in words


def test_without_many_digits_only_what_is_not_finite_departs():
    assert (
        departure.find_departure(network(a_outputs=BAD), (), (math.nan, 1.0), 65504.0).layer
        == "model/a"
    )
    assert departure.find_departure(network(a_outputs=ZERO), (), (1.0, 1.0), 65504.0) is None


LAYOUT = Layout(("model/a/kernel", "model/b/kernel"), ((30,), (5,)))
SMALL = 1e-8 * np.random.default_rng(1).normal(size=35)


def lost(below):
    """Comparisons of a tiny gradient: the first variable lost all, the second all below `below`."""
    trained = np.concatenate([np.zeros(30), np.where(np.abs(SMALL[30:]) < below, 0.0, SMALL[30:])])
    return optimizer_comparison.compare(
        OptimizerGradient(LAYOUT, SMALL, trained, np.array([True, True])), (), "float16"
    )


@pytest.mark.parametrize(
    ("below", "where", "failing"),
    [(9e-9, None, 0), (9e-9, "model/b", 0), (1.0, None, 1), (1.0, "model/a", 0)],
)
def test_underflow_leads_with_the_variable_that_lost_most_and_then_with_the_layer_where_it_begins(
    below, where, failing
):
    place = where and Departure(Location.BACKWARD, where, True, 1e-9)
    found = native_diagnosis.diagnose(LAYOUT, lost(below), "float16", (1.0, 1.0), 1.0, place)
    assert [(d.path, d.is_leading) for d in found] == [
        (LAYOUT.paths[failing], True),
        (LAYOUT.paths[1 - failing], False),
    ]
    assert (
        "up to 100% of the gradient underflows to zero in float16: use loss scaling"
        in found[0].sentence
    )


def test_what_agrees_is_no_failure():
    comparisons = optimizer_comparison.compare(
        OptimizerGradient(LAYOUT, SMALL, SMALL, np.array([True, True])), (), "float16"
    )
    assert {c.verdict for c in comparisons} == {Verdict.PASS}
    assert native_diagnosis.diagnose(LAYOUT, comparisons, "float16", (1.0, 1.0), 1.0, None) == ()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_limits_are_where_numbers_end(dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    largest, smallest = native_diagnosis.limits(dtype)
    assert np.isfinite(np.asarray(largest).astype(kind))
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.asarray(largest).astype(kind) * kind.type(1.01))
    assert 0 < smallest < 1e-7 < largest
    assert np.asarray(smallest).astype(kind) > 0
