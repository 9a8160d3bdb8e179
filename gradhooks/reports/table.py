"""A report as plain text for people: what `print(report)` shows.

Every name and sentence in a report may come from somebody's layer, so all of
them pass through `printable` before they reach a terminal.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from gradhooks.reports.actions import advice, reproduction_line
from gradhooks.reports.answer import describe_finding, list_evidence_of_place
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import (
    EVERYTHING,
    TRAINED,
    Comparison,
    GradientComparison,
    Report,
)
from gradhooks.reports.text import (
    UNKNOWN,
    describe_origin,
    exact,
    indent,
    location,
    omission,
    printable,
    rough,
    shorten,
)

# Columns of the text, and rows of the table; free choices: a usual terminal shows both.
WIDTH = 100
ROWS = 12
HEADER = ("", "parameter", "term", "analytic", "numeric", "+-", "allowed", "rel.diff", "reason")
# Digits behind the decimal point of two derivatives, in order of preference: three are the fewest
# with which numbers can still be compared.
DIGITS = (5, 4, 3)
# Headings of what a failure says.
EVIDENCE, ACTIONS = "Evidence:", "What to do:"
MARKS = {Verdict.FAIL: "FAIL", Verdict.INCONCLUSIVE: "?", Verdict.PASS: "ok"}
_SEVERITY = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
_LABEL = HEADER.index("parameter")
_NUMBERS = range(HEADER.index("analytic"), HEADER.index("reason"))


def render(report: Report) -> str:
    """Returns a report as plain text, at most 100 columns wide.

    First the verdict, and of a failure what is wrong and where; then what was
    measured, with the worst comparisons (failures, then what could not be
    decided, then the passes with the largest difference); of a failure what to
    do and how to repeat it; the remarks and, last, how the numbers were
    obtained.

    Args:
        report: A `CheckReport`.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> report = Report(7, Verdict.PASS, Reason.AGREES, {"total": 3e-10}, threshold=1e-6)
    >>> print("\\n".join(render(report).splitlines()[:2]))
    PASS (agrees) at step 7, gradcheck
    relative difference total 3.0e-10; threshold 1.0e-06
    """
    finding = [describe_finding(report)] if report.verdict is Verdict.FAIL else []
    return "\n".join([*_wrap([headline(report), *finding]), render_body(report)])


def render_body(report: Report) -> str:
    """Returns what `render` shows below the verdict, and below what is wrong and where."""
    shown = worst_first(report.comparisons)[:ROWS]
    above = [*list_evidence(report), differences(report)]
    below = [*list_below(report), circumstances(report), describe_origin(report.origin)]
    return "\n".join([*_wrap(above), *_align_rows(shown), *_wrap(below)])


def list_evidence(report: Report) -> list[str]:
    """Returns the lines above the table about the place of an error.

    None without a failure, and where the table alone is the evidence.
    """
    lines = list_evidence_of_place(report) if report.verdict is Verdict.FAIL else []
    if not lines:
        return []
    more = omission(len(lines) - ROWS, "lines")
    return [EVIDENCE, *indent([*lines[:ROWS], more])]


def list_below(report: Report) -> list[str]:
    """Returns the lines below the table: what it left out, what to do, and the remarks."""
    worst = worst_first(report.comparisons)
    lines = [omission(len(worst) - ROWS, "comparisons"), legend(worst[:ROWS])]
    if report.verdict is Verdict.FAIL:
        lines += [ACTIONS, *indent(advice(report)), reproduction_line(report)]
    return [line for line in [*lines, *remarks(report)] if line]


def headline(report: Report) -> str:
    """Returns verdict, reason, step and name in one line."""
    return f"{report.verdict} ({report.reason}) at step {report.step}, {printable(report.name)}"


def differences(report: Report) -> str:
    """Returns the relative difference of every term, and the threshold if it is known."""
    numbers = {term: rough(number) for term, number in report.relative_difference.items()}
    shown = "not measured"
    if any(number != UNKNOWN for number in numbers.values()):
        shown = ", ".join(f"{printable(term)} {number}" for term, number in numbers.items())
    threshold = f"; threshold {rough(report.threshold)}" if math.isfinite(report.threshold) else ""
    return f"relative difference {shown}{threshold}"


def worst_first(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Returns comparisons sorted: failed, undecided, passed, vacuous; of each the worst first."""
    return sorted(comparisons, key=lambda c: (_rank(c), -_weight(c.relative_difference)))


def cells(comparison: Comparison, digits: int = DIGITS[0]) -> tuple[str, ...]:
    """Returns one row of the table, a string per column of `HEADER`.

    Args:
        comparison: A `Comparison`.
        digits: Digits of the two derivatives, or norms, behind the decimal point.
    """
    c = comparison
    if isinstance(c, GradientComparison):
        numbers = _norms(c, digits)
    else:
        numbers = exact(c.analytic, digits), exact(c.numeric, digits), _cell(c.error, digits=0)
    return (
        MARKS[c.verdict],
        location(c.label),
        printable(c.term),
        *numbers,
        _cell(c.allowed),
        _cell(c.relative_difference),
        _describe_reason(c),
    )


def _describe_reason(comparison: Comparison) -> str:
    """The reason, and in which company a parameter was measured."""
    if isinstance(comparison, GradientComparison) or comparison.pooled < 2:
        return str(comparison.reason)
    return f"{comparison.reason}, 1 of {comparison.pooled}"


def _norms(comparison: GradientComparison, digits: int) -> tuple[str, str, str]:
    """Both norms, which are no estimates and have no error bar."""
    c = comparison
    # NaN for all variables together: no gradient was recorded, or only losses were compared.
    form = _cell if c.path == EVERYTHING else exact
    return form(c.analytic_norm, digits), form(c.received_norm, digits), "-"


def fit_digits(comparisons: Sequence[Comparison], width: int) -> list[tuple[str, ...]]:
    """Returns the rows of comparisons, with as many digits as leave all names whole.

    Args:
        comparisons: `Comparison`s, at least one.
        width: Columns for a row, with one space between two cells.
    """
    rows: list[tuple[str, ...]] = []
    for digits in DIGITS:
        rows = [cells(c, digits) for c in comparisons]
        if sum(_widths(rows)) + len(HEADER) - 1 <= width:
            break
    return rows


def legend(comparisons: Sequence[Comparison]) -> str:
    """Returns what the columns hold for whole gradients and for pools; empty without either."""
    sentences: list[str] = []
    gradients = [c for c in comparisons if isinstance(c, GradientComparison)]
    if gradients:
        dtypes = dict.fromkeys(printable(c.dtype) for c in gradients)
        where = f" ({', '.join(dtypes)})" if any(dtypes) else ""
        sentences.append(
            f"{TRAINED}: norms of the gradient by backpropagation and of what the optimizer "
            f"receives{where}"
        )
    pooled = [c.pooled for c in comparisons if not isinstance(c, GradientComparison)]
    most = max(pooled, default=1)
    if most > 1:
        sentences.append(
            f"1 of {most}: measured together with others; the numbers are those of the parameter "
            "if it alone made all of the difference"
        )
    return "; ".join(sentences)


def remarks(report: Report) -> list[str]:
    """Returns what the report says in words, one remark a line, each with its kind."""
    lines: list[str] = []
    if report.error:
        lines.append(f"error: {printable(report.error)}")
    if report.culprit is None:  # else the search among variables has nothing to add
        lines += [f"found by: {printable(line)}" for line in report.trail]
    notes = (report.precision.note, *report.notes)
    lines += [f"note: {printable(note)}" for note in notes if note]
    return lines


def circumstances(report: Report) -> str:
    """Returns how the numbers were obtained, in one line, without what is zero or empty."""
    precision, coverage, vacuous = report.precision, report.coverage, len(report.vacuous)
    is_measured = bool(report.evaluations or coverage.variables_total)
    pooled = count_pooled(report.comparisons)
    variables = f"{coverage.variables} of {coverage.variables_total} variables"
    parameters = f"{coverage.parameters} of {coverage.parameters_total} parameters"
    parts = (
        (is_measured, f"precision {printable(precision.level)}"),
        (True, _describe_names("native layers", precision.native_layers)),
        (True, _describe_names("narrow operations", precision.narrow_operations)),
        (True, _describe_names("operations in steps", precision.step_operations)),
        (bool(precision.noise), f"noise {rough(precision.noise)}"),
        (is_measured, f"coverage {variables}"),
        (is_measured, parameters),
        (True, f"{report.samples} samples"),
        (pooled > 0, f"{pooled} of them in pools"),
        (True, f"seed {report.seed}"),
        (is_measured, f"{report.evaluations} evaluations"),
        (report.replaced > 0, f"{report.replaced} probes replaced (kink)"),
        (vacuous > 0, f"{vacuous} vacuous"),
        (bool(report.jitter), f"jitter {rough(report.jitter)}"),
        (True, f"{report.seconds:.2f} s"),
    )
    return "; ".join(text for is_shown, text in parts if is_shown and text)


def count_pooled(comparisons: Iterable[Comparison]) -> int:
    """Returns how many parameters were measured together with others."""
    positions: set[int] = set()
    for c in comparisons:
        if not isinstance(c, GradientComparison) and c.pooled > 1:
            positions.add(c.position)
    return len(positions)


def _rank(comparison: Comparison) -> int:
    if comparison.reason is Reason.VACUOUS:
        return len(_SEVERITY)
    return _SEVERITY.index(comparison.verdict)


def _weight(difference: float) -> float:
    return difference if math.isfinite(difference) else math.inf


def _describe_names(what: str, names: Sequence[str], most: int = 3) -> str:
    """`what: a, b, c ... and 4 more`; empty without names."""
    if not names:
        return ""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{what}: {shown} {omission(len(names) - most, '')}".strip()


def _cell(number: float, digits: int = 1) -> str:
    """A number in a table; a dash stands for one that is not known."""
    return "-" if math.isnan(number) else f"{number:.{digits}e}"


def _widths(rows: Iterable[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]


def _wrap(paragraphs: Iterable[str]) -> Iterator[str]:
    for text in paragraphs:
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _align_rows(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The lines of the table; the parameter's column is cut where the fewest digits do not fit."""
    if not comparisons:
        return
    rows = fit_digits(comparisons, WIDTH)
    widths = _widths(rows)
    excess = sum(widths) + len(widths) - 1 - WIDTH
    widths[_LABEL] -= max(0, excess)
    for row in (HEADER, *rows):
        padded: list[str] = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if column == _LABEL:
                cell = shorten(cell, width)
            padded.append(cell.rjust(width) if column in _NUMBERS else cell.ljust(width))
        yield " ".join(padded).rstrip()
