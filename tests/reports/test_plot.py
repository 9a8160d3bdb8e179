"""The picture of a report: what is drawn where, and that any report can be drawn."""

import builtins
import math
import pickle
import sys
import warnings

import hypothesis
import pytest

import gradhooks
from gradhooks.reports.plot import VARIABLES
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.scatter import COLOURS, MARKERS, NAMED
from tests.arbitrary import REPORTS
from tests.reports.test_table import WRONG, comparison, failed, report

mpl = pytest.importorskip("matplotlib", reason="it is part of the extra `test`")
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

FAILED = failed("dense/kernel", index=(3, 4))
PASSED = comparison("dense/bias", analytic=1.0, numeric=1.0, relative_difference=0.0)
NAN = failed("dense/nan", analytic=math.nan, relative_difference=math.nan)
RECEIVED = GradientComparison(
    "dense/kernel", 0.5, 1.5, 1.0, 0.5, Verdict.FAIL, Reason.UNTRAINED, allowed=2e-4
)


def fail(*comparisons, **changes):
    changes = {"threshold": 1e-7} | changes
    return report(*comparisons, verdict=Verdict.FAIL, reason=Reason.MISMATCH, **changes)


def rendered(figure):
    """The size of the picture; what matplotlib or NumPy warn of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", "Glyph .* missing")  # no font has all characters
        picture = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])


def points(axes, verdict):
    """The points of a verdict in axes: filled and hollow ones."""
    found = []
    for line in axes.get_lines():
        if line.get_marker() == MARKERS[verdict] and to_hex(line.get_color()) == COLOURS[verdict]:
            found += zip(line.get_xdata(), line.get_ydata(), strict=True)
    return found


def words(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(WRONG, id="a failure"),
        pytest.param(report(PASSED), id="a pass"),
        pytest.param(
            report(
                comparison(verdict=Verdict.INCONCLUSIVE, reason=Reason.KINK),
                verdict=Verdict.INCONCLUSIVE,
                reason=Reason.KINK,
            ),
            id="nothing decided",
        ),
        pytest.param(
            report(verdict=Verdict.INCONCLUSIVE, reason=Reason.ERROR, error="ValueError: a\nb"),
            id="an error, without comparisons",
        ),
        pytest.param(fail(RECEIVED), id="no derivative"),
        pytest.param(fail(NAN), id="no finite number"),
    ],
)
def test_a_report_of_any_kind_is_drawn_and_so_is_a_stored_one(told):
    for each in (told, CheckReport.from_json(told.to_json())):
        figure = each.plot()
        assert isinstance(figure, Figure)
        assert len(figure.axes) == 2
        assert str(each.verdict) in figure.get_suptitle()
        width, height = rendered(figure)
        assert (width, height >= 500) == (1100, True)


@hypothesis.settings(max_examples=10)
@hypothesis.given(REPORTS)
def test_any_report_is_drawn(told):
    rendered(told.plot())


@pytest.mark.parametrize(
    "numbers", [(1.7e308, -1.7e308), (1.7e308, 1.0), (5e-324, 1e-310), (9e99, -1e-99), (0.0, 0.0)]
)
def test_numbers_of_any_size_are_drawn(numbers):
    told = fail(*(failed(analytic=x, numeric=-x, error=abs(x)) for x in numbers))
    rendered(told.plot())


def test_failures_stand_out_by_shape_and_colour_and_are_named():
    left, right = fail(FAILED, PASSED).plot().axes
    assert points(left, Verdict.FAIL) == [(0.5, 1.0)]
    assert points(left, Verdict.PASS) == [(1.0, 1.0)]
    assert points(right, Verdict.FAIL) == [(1 / 3, 0)]
    assert words(left) == ["dense/kernel[3, 4]"]
    assert len(set(MARKERS.values())) == len(set(COLOURS.values())) == len(Verdict)


def test_numeric_derivatives_have_error_bars():
    left, _ = fail(failed(error=0.25), failed("b", error=math.nan)).plot().axes
    ends = [s[:, 1].tolist() for c in left.collections for s in c.get_segments()]
    assert ends == [[0.75, 1.25], [1.0, 1.0]]


def test_the_worst_of_many_failures_are_named_on_their_side():
    many = [failed(f"v{k}", relative_difference=0.5 - k / 100) for k in range(NAMED + 2)]
    assert words(fail(*many).plot().axes[0]) == [
        *(f"v{k}[0]" for k in range(NAMED)),
        "... and 2 more variables",
    ]
    low, high = failed("low", analytic=0.0, numeric=-1.0), failed("high", analytic=1.0, numeric=2.0)
    at = {t.get_text(): t.get_position() for t in fail(low, high).plot().axes[0].texts}
    assert at["high[0]"] == (0.02, 0.98)
    assert at["low[0]"] == (0.98, 0.02)


def test_no_name_lies_on_a_point():
    corner = failed("corner", analytic=-1.0, numeric=1.0)
    (text,) = fail(corner).plot().axes[0].texts
    assert text.get_position()[1] < 0.9


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [((1.0, 50.0), "linear"), ((1e-3, 1.0), "symlog"), ((0.0, 1.0), "linear"), ((0.0,), "linear")],
)
def test_the_axes_are_logarithmic_where_the_range_needs_it(numbers, scale):
    for sign in (1, -1):
        told = fail(*(failed(analytic=sign * x, numeric=sign * x) for x in numbers))
        left, _ = told.plot().axes
        assert (left.get_xscale(), left.get_yscale()) == (scale, scale)
        assert left.get_xlim() == left.get_ylim()
        for x in numbers:
            assert left.get_xlim()[0] < sign * x < left.get_xlim()[1]


def test_numbers_that_are_not_finite_are_counted_and_lie_at_the_right_end():
    left, right = fail(FAILED, NAN).plot().axes
    assert left.get_title() == "not finite, not drawn: 1"
    row = [label.get_text() for label in right.get_yticklabels()].index("dense/nan")
    (x,) = [x for x, y in points(right, Verdict.FAIL) if y == row]
    tick = list(right.get_xticks()).index(x)
    assert right.get_xticklabels()[tick].get_text() == "not finite"


def test_the_threshold_is_a_line_and_a_received_gradient_has_its_own():
    _, right = fail(FAILED, RECEIVED).plot().axes
    drawn = {line.get_label(): line for line in right.get_lines()}
    assert list(drawn["threshold 1.0e-07"].get_xdata()) == [1e-7, 1e-7]
    assert list(drawn["allowed for it"].get_xdata()) == [1e-4]
    assert (0.5, 0) in points(right, Verdict.FAIL)
    for unknown in (math.nan, 0.0, math.inf):
        _, right = fail(FAILED, threshold=unknown).plot().axes
        assert not [line for line in right.get_lines() if "threshold" in str(line.get_label())]


def test_the_worst_variables_have_a_row_in_forward_order():
    many = [comparison(f"v{k}", position=k, relative_difference=1e-9 * k) for k in range(500)]
    _, right = report(*reversed(many)).plot().axes
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == [f"v{k}" for k in range(500 - VARIABLES, 500)]
    assert right.get_title() == f"the worst {VARIABLES} of 500 variables"
    assert right.get_ylim()[0] > right.get_ylim()[1]  # the first on top


@pytest.mark.parametrize("name", [r"$\frac{$", "a$b$c", "<script>", "x" * 3000, "\u202e\n", ""])
def test_names_are_no_formulas_and_are_cut(name):
    figure = fail(failed(name), name=name).plot()
    rendered(figure)
    shown = [*words(figure.axes[0]), figure.axes[1].get_yticklabels()[0].get_text()]
    assert all(text.isprintable() and len(text) <= 36 for text in shown)


def test_a_figure_or_a_part_of_one_is_drawn_into():
    figure = Figure(figsize=(12, 4))
    assert fail(FAILED).plot(figure) is figure
    assert len(figure.axes) == 2
    assert figure.get_layout_engine() is not None
    figure.canvas.draw()

    whole = Figure(figsize=(12, 8))
    upper, lower = whole.subfigures(2, 1)
    assert report(PASSED).plot(figure=upper) is upper
    fail(FAILED).plot(figure=lower)
    assert len(whole.axes) == 4
    whole.canvas.draw()


@pytest.mark.parametrize("figure", ["a.png", 1, (12, 4)])
def test_what_is_no_figure_is_refused(figure):
    with pytest.raises(gradhooks.BadInputError) as caught:
        report(PASSED).plot(figure)
    message = str(caught.value)
    for part in (f"Received: figure={figure!r}", "Expected a matplotlib Figure", "Try figure=None"):
        assert part in message


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "gradhooks.reports.figure", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError) as caught:
        report(PASSED).plot()
    message = str(caught.value)
    for part in (
        "Received: No module named 'matplotlib",
        "Expected ",
        "pip install 'gradhooks[plot",
    ):
        assert part in message


def test_pyplot_keeps_no_figure_and_its_settings_hold():
    from matplotlib import pyplot

    with mpl.rc_context({"figure.facecolor": "black"}):
        figure = report(PASSED).plot()
    assert to_hex(figure.get_facecolor()) == "#000000"
    assert pyplot.get_fignums() == []


def test_a_figure_can_be_pickled():
    assert len(pickle.loads(pickle.dumps(fail(FAILED).plot())).axes) == 2
