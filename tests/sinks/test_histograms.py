"""Norms and histograms of gradients, as TensorBoard reads them back."""

import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.util import tensor_util

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.sinks import histograms
from gradhooks.sinks.histograms import (
    GradientSnapshot,
    buckets,
    norms,
    omission_note,
    variables_to_show,
)
from gradhooks.sinks.tensorboard import TensorBoardSink

REPORT = CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 0.0})


def deep(count, size=3):
    layout = Layout(tuple(f"layer_{n}/kernel" for n in range(count)), ((size,),) * count)
    return GradientSnapshot(layout, np.arange(count * size, dtype=float))


def read(directory, shown_gradients, **options):
    sink = TensorBoardSink(directory, **options)
    sink.write(REPORT, shown_gradients)
    sink.close()
    accumulator = EventAccumulator(str(directory / "gradcheck"))
    accumulator.Reload()
    return accumulator


def tags(accumulator, plugin):
    names = accumulator.Tags()["tensors"]
    return [n for n in names if accumulator.SummaryMetadata(n).plugin_data.plugin_name == plugin]


def value(accumulator, tag):
    (event,) = accumulator.Tensors(tag)
    assert event.step == 7
    return tensor_util.make_ndarray(event.tensor_proto)


def text(accumulator):
    return str(value(accumulator, "gradcheck/report"))


def test_norms_are_scalars_and_histograms_are_asked_for(tmp_path):
    plain = read(tmp_path / "plain", deep(2))
    assert value(plain, "gradcheck/gradient_norm/layer_1/kernel") == np.float32(np.sqrt(50.0))
    assert tags(plain, "histograms") == []
    asked = read(tmp_path / "asked", deep(2), histograms=True)
    assert tags(asked, "histograms") == [
        "gradcheck/gradients/layer_0/kernel",
        "gradcheck/gradients/layer_1/kernel",
    ]
    histogram = value(asked, "gradcheck/gradients/layer_1/kernel")
    assert histogram[:, 2].sum() == 3
    assert (histogram[0, 0], histogram[-1, 1]) == (3.0, 5.0)


def test_a_report_without_gradients_is_written_as_before(tmp_path):
    assert not [
        t for t in tags(read(tmp_path, None, histograms=True), "scalars") if "gradient_norm" in t
    ]


def test_of_many_variables_a_fixed_selection_is_shown_and_the_rest_is_counted(tmp_path):
    accumulator = read(tmp_path, deep(250), histograms=True)
    shown_norms = [t for t in tags(accumulator, "scalars") if "gradient_norm" in t]
    assert len(shown_norms) == 100
    assert len(tags(accumulator, "histograms")) == 30
    for end in (0, 249):
        assert f"gradcheck/gradient_norm/layer_{end}/kernel" in shown_norms
        assert f"gradcheck/gradients/layer_{end}/kernel" in tags(accumulator, "histograms")
    assert "norms of 100 of 250 variables and histograms of 30 of 250 variables" in text(
        accumulator
    ).replace("&#46;", ".")


def test_nothing_is_said_where_everything_is_shown():
    assert omission_note(deep(30), True) == ""
    assert "histograms of 30 of 31" in omission_note(deep(31), True)
    assert omission_note(deep(31), False) == ""


def test_what_is_not_finite_is_counted_and_not_drawn(tmp_path):
    layout = Layout(("a", "b", "c", "d"), ((2,), (2,), (0,), (1,)))
    broken = GradientSnapshot(layout, np.array([1.0, np.nan, 1e30, 1e30, np.inf]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accumulator = read(tmp_path, broken, histograms=True)
        assert norms(broken) == {"b": pytest.approx(2**0.5 * 1e30), "c": 0.0}
    assert tags(accumulator, "histograms") == ["gradcheck/gradients/a", "gradcheck/gradients/b"]
    assert "2 entries are not finite" in omission_note(broken, True)


@hypothesis.given(st.integers(0, 500), st.integers(2, 120))
def test_the_selection_has_both_ends_and_keeps_to_the_limit(count, most):
    selection = variables_to_show(count, most)
    assert selection == sorted(set(selection))
    assert len(selection) == min(count, most)
    assert not count or (selection[0], selection[-1]) == (0, count - 1)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@hypothesis.given(arrays.arrays(np.float64, st.integers(1, 40), elements=FINITE))
def test_every_value_is_in_a_bucket(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = buckets(values)
    assert found.shape == (histograms.BUCKETS, 3)
    assert found[:, 2].sum() == len(values)
    assert (found[0, 0], found[-1, 1]) == (values.min(), values.max())
    assert np.isfinite(found).all()


def test_the_buckets_are_those_of_tensorboard():
    values = np.random.default_rng(0).normal(size=1000)
    theirs = tensor_util.make_ndarray(histogram_pb("t", values).value[0].tensor)
    np.testing.assert_allclose(buckets(values), theirs)
