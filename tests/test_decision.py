"""The page on how a verdict is reached says what the code does."""

import ast
import importlib
import inspect
import pathlib
import re

import pytest

from gradhooks.checking import confirm, replicates
from gradhooks.checking.baseline import StencilSpacing
from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge, replication
from gradhooks.verdicts.replication import Vote

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "decision.md").read_text()
ROOMS = ("numerics", "verdicts", "checking")
# The page says that there are fewer than thirty groups.
MOST_GROUPS = 29
ORIGINS = ("derived", "calibrated", "free", "measured")


def rows(heading):
    """The rows of the tables under a heading: lists of cells."""
    section = re.split(rf"^##+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    is_rule = [set(row[0]) <= set("- ") for row in cells]
    # The row above a rule is a heading.
    return [
        row
        for row, below, own in zip(cells, [*is_rule[1:], False], is_rule, strict=True)
        if not (below or own)
    ]


def constants_on_page():
    """Every constant of the page: {"room.module.NAME": value}."""
    found = {}
    for name, value in re.findall(
        r"`([a-z_.]+\.[A-Z_]+)` = (.+?)(?=, `| \||$)", PAGE, re.MULTILINE
    ):
        assert name not in found, f"{name} is on the page twice"
        found[name] = eval(value, {"StencilSpacing": StencilSpacing})
    return found


def constants_in_code():
    """Every constant made of numbers at the top of a module of the three rooms."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / "gradhooks" / room).glob("*.py")):
            module = importlib.import_module(f"gradhooks.{room}.{path.stem}")
            for node in ast.parse(path.read_text()).body:
                for name in assigned(node):
                    value = getattr(module, name)
                    if is_numeric(value):
                        found[f"{room}.{path.stem}.{name}"] = value
    return found


def assigned(node):
    """The names in capitals that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = [n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [name for name in names if name.strip("_").isupper()]


def is_numeric(value):
    """Whether a value is made of numbers, and not of the machine's limits or of words."""
    if isinstance(value, dict):
        return all(map(is_numeric, value.values()))
    if isinstance(value, tuple):
        return bool(value) and all(map(is_numeric, value))
    return isinstance(value, (int, float, StencilSpacing)) and not isinstance(value, bool)


# Limits of a format, which are no choice.
LIMITS = {"verdicts.replication._TINY", "numerics.noise.FLOAT32"}


def test_every_constant_is_on_the_page_with_its_value():
    in_code = constants_in_code()
    for name in LIMITS:
        in_code.pop(name)
    on_page = constants_on_page()
    assert set(on_page) == set(in_code)
    assert {n: v for n, v in on_page.items() if v != in_code[n]} == {}


def test_fewer_than_thirty_groups_lie_between_a_measurement_and_a_verdict():
    groups = rows("Between a measurement and a verdict")
    assert len(groups) <= MOST_GROUPS
    assert len({group[0] for group in groups}) == len(groups)
    for group, _, origin in groups:
        assert origin.startswith(ORIGINS), f"{group}: {origin}"


def test_every_constant_says_in_the_code_where_it_comes_from():
    """In a comment above it; the words of the page and of the comment may differ."""
    missing = []
    for name in constants_in_code():
        room, module, constant = name.split(".")
        lines = (ROOT / "gradhooks" / room / f"{module}.py").read_text().splitlines()
        start = next(
            k for k, line in enumerate(lines) if re.match(rf"[A-Z_, ]*\b{constant}\b", line)
        )
        while start and not lines[start - 1].startswith("#") and lines[start - 1].strip():
            start -= 1  # a constant under the comment of another
        if not lines[start - 1].startswith("#"):
            missing.append(name)
    assert missing == []


def test_four_gates_lie_between_a_disagreement_and_a_failure():
    gates = rows("From a disagreement to FAIL")[:4]
    assert [gate[0].split(":")[0].split(",")[0] for gate in gates] == [
        "a second sequence of steps",
        "the analytic derivative within the step",
        "replicates",
        "`expect`",
    ]
    assert len(confirm._POINTS_ALONG_STEP) == 6
    source = inspect.getsource(confirm._confirm_each)
    order = [
        source.index(call)
        for call in ("measure.refine(", "_varies_along_step(", "replicates.confirm(")
    ]
    assert order == sorted(order)


def test_every_reason_is_on_the_page_once():
    named = [name for row in rows("Reasons") for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(named) == sorted(str(reason) for reason in Reason)


BAR = 1e-9
# (row of the table, analytic, estimate), with a threshold of 1e-6
STATISTIC = [
    ("no loss nearby is finite", 1.0, DerivativeEstimate(float("nan"), 1.0, 1.0, 0.0, 0.0)),
    ("`a` is not finite", float("inf"), DerivativeEstimate(1.0, BAR, 1.0, 1.0, 1.0)),
    ("`T > 1`", 1.1, DerivativeEstimate(1.0, BAR, 1.0, 1.0, 1.0)),
    ("`T > 1`", 0.0, DerivativeEstimate(1.0, BAR, 1.0, 1.0, 1.0)),
    ("the slopes do not meet", 1.0, DerivativeEstimate(1.0, BAR, 1.0, 0.5, 1.5, BAR, BAR)),
    ("the slopes do not meet", 1.0, DerivativeEstimate(1.0, BAR, 1.0, 0.5, 1.5, 0.3, 0.3)),
    ("`a` and `c` are both below `e`", 1e-10, DerivativeEstimate(0.0, BAR, 1.0, 0.0, 0.0)),
    ("`e <= 0.03 S`", 1.0, DerivativeEstimate(1.0, 0.05, 1.0, 1.0, 1.0)),
    ("`e` is larger", 1.0, DerivativeEstimate(1.0, 0.1, 1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize(("row", "analytic", "estimate"), STATISTIC)
def test_the_table_of_the_statistic_is_what_is_judged(row, analytic, estimate):
    table = {cells[0]: cells[1:] for cells in rows("The statistic")}
    (verdict, reasons), *others = [cells for name, cells in table.items() if name.startswith(row)]
    assert not others
    judged, reason = judge.judge(analytic, estimate, 1e-6)
    assert str(judged) == verdict
    assert f"`{reason}`" in reasons


def test_every_row_of_the_statistic_is_tried():
    names = [cells[0] for cells in rows("The statistic")]
    tried = [row for row, *_ in STATISTIC]
    assert [n for n in names if not any(n.startswith(row) for row in tried)] == []
    order = [next(k for k, n in enumerate(names) if n.startswith(row)) for row in tried]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("row", "count", "is_doubtful"),
    [
        ("in float64, where the slopes meet", replicates.REPLICATES, False),
        ("in float64, where they do not meet", replicates.REPLICATES, True),
        ("at native precision", replicates.REPLICATES_NATIVE, True),
        ("of the gradient that the optimizer receives", 2, True),
    ],
)
def test_the_table_of_replicates_is_what_is_confirmed(row, count, is_doubtful):
    (cells,) = [cells for cells in rows("From a disagreement to FAIL") if cells[0].startswith(row)]
    assert int(cells[1]) == count
    silent = replication.confirm([is_doubtful], count, lambda numbers, _: [Vote.SILENT])
    assert silent == [cells[2] == "unless contradicted"]
    repeated = replication.confirm([is_doubtful], count, lambda numbers, _: [Vote.REPEATED])
    contradicted = replication.confirm([is_doubtful], count, lambda numbers, _: [Vote.CONTRADICTED])
    assert (repeated, contradicted) == ([True], [False])


def test_verdicts_on_the_page_exist():
    assert {cells[1] for cells in rows("The statistic")} == {str(verdict) for verdict in Verdict}
