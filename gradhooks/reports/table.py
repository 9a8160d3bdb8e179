"""A report as plain text for people: what `print(report)` shows.

Every name and sentence in a report may come from somebody's layer, so all of
them pass through `printable` before they reach a terminal.
"""

import math
import textwrap

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, TRAINED, GradientComparison
from gradhooks.reports.text import (
    UNKNOWN,
    exact,
    list_names,
    location,
    omission,
    printable,
    rough,
    shorten,
)

WIDTH = 100
ROWS = 12
HEADER = ("", "parameter", "term", "analytic", "numeric", "+-", "allowed", "rel.diff", "reason")
# Digits behind the point of two derivatives to compare; of fewer than the last, none would be left
# to compare.
DIGITS = (5, 4, 3)
MARKS = {Verdict.FAIL: "FAIL", Verdict.INCONCLUSIVE: "?", Verdict.PASS: "ok"}
_LABEL = HEADER.index("parameter")
_NUMBERS = range(HEADER.index("analytic"), HEADER.index("reason"))


def render(report):
    """Returns a report as plain text, at most 100 columns wide.

    First the verdict, then the worst comparisons (failures, then what could
    not be decided, then the least good passes), the diagnoses, the remarks
    and, last, how the numbers were obtained.

    Args:
        report: A `CheckReport`.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.records import CheckReport
    >>> report = CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 3e-10}, threshold=1e-6)
    >>> print("\\n".join(render(report).splitlines()[:2]))
    PASS (agrees) at step 7, gradcheck
    relative difference total 3.0e-10; threshold 1.0e-06
    """
    worst = worst_first(report.comparisons)
    above = (headline(report), differences(report))
    below = (
        omission(len(worst) - ROWS, "comparisons"),
        legend(worst[:ROWS]),
        *remarks(report),
        circumstances(report),
    )
    return "\n".join([*_wrapped(above), *_aligned(worst[:ROWS]), *_wrapped(below)])


def headline(report):
    """Returns verdict, reason, step and name in one line."""
    return f"{report.verdict} ({report.reason}) at step {report.step}, {printable(report.name)}"


def differences(report):
    """Returns the relative difference of every term beside the threshold; what is not known goes unsaid."""
    told = {term: rough(d) for term, d in report.relative_difference.items()}
    is_known = any(number != UNKNOWN for number in told.values())
    terms = (
        ", ".join(f"{printable(term)} {number}" for term, number in told.items())
        if is_known
        else "not measured"
    )
    threshold = f"; threshold {rough(report.threshold)}" if math.isfinite(report.threshold) else ""
    return f"relative difference {terms}{threshold}"


def worst_first(comparisons):
    """Returns comparisons as a list: failed, undecided, decided, vacuous; of each the worst first."""
    return sorted(comparisons, key=lambda c: (_rank(c), -_weight(c.relative_difference)))


def cells(comparison, digits=DIGITS[0]):
    """Returns what the table says about one comparison, a string per column of `HEADER`.

    Args:
        comparison: A `Comparison`. `allowed` is the largest gap that would have
            passed.
        digits: Digits of the two derivatives, or norms, behind the point.
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
        str(c.reason),
    )


def _norms(comparison, digits):
    """Both norms, which are no estimates and have no error bar."""
    c = comparison
    # NaN for all variables together: no gradient was recorded, or only losses were compared.
    form = _cell if c.path == EVERYTHING else exact
    return form(c.analytic_norm, digits), form(c.received_norm, digits), "-"


def fit_digits(comparisons, width):
    """Returns the cells of comparisons, with the most digits that leave every parameter its whole name.

    Args:
        comparisons: `Comparison`s.
        width: Columns for a row, one between two cells.
    """
    for digits in DIGITS:
        rows = [cells(c, digits) for c in comparisons]
        if sum(_widths(rows)) + len(HEADER) - 1 <= width:
            break
    return rows


def legend(comparisons):
    """Returns what the columns hold for the comparisons with what the optimizer receives; empty without any."""
    dtypes = dict.fromkeys(
        printable(c.dtype) for c in comparisons if isinstance(c, GradientComparison)
    )
    where = f" ({', '.join(dtypes)})" if any(dtypes) else ""
    text = f"{TRAINED}: norms of the gradient by backpropagation and of what the optimizer receives{where}"
    return text if dtypes else ""


def remarks(report):
    """Returns what the report says in words, a line each, every line with what kind of remark it is."""
    diagnoses = merge_diagnoses(report.diagnoses)
    return [
        *([f"error: {printable(report.error)}"] if report.error else ()),
        *(f"diagnosis: {line}" for line in diagnoses[:ROWS]),
        *([omission(len(diagnoses) - ROWS, "diagnoses")] if len(diagnoses) > ROWS else ()),
        *(f"found by: {printable(line)}" for line in report.trail),
        *(f"note: {printable(note)}" for note in (report.precision.note, *report.notes) if note),
    ]


def diagnosis_line(diagnosis):
    """Returns a diagnosis in one line: where, and what is wrong there."""
    return f"{location(diagnosis.path)}: {printable(diagnosis.sentence)}"


def merge_diagnoses(diagnoses, known=None):
    """Returns a line for every sentence among diagnoses, with all the places that it is said of.

    Args:
        diagnoses: `Diagnosis` records.
        known: A sentence that need not be told again.
    """
    places = {}
    for d in diagnoses:
        places.setdefault(d.sentence, {})[location(d.path)] = None
    return [
        f"{list_names([*paths])}: {'the same' if sentence == known else printable(sentence)}"
        for sentence, paths in places.items()
    ]


def circumstances(report):
    """Returns how the numbers were obtained, in one line; what is zero or empty goes unsaid."""
    precision, coverage, vacuous = report.precision, report.coverage, len(report.vacuous)
    is_measured = report.evaluations or coverage.variables_total
    parts = (
        is_measured and f"precision {printable(precision.level)}",
        _listed("native layers", precision.native_layers),
        _listed("narrow operations", precision.narrow_operations),
        _listed("operations in steps", precision.step_operations),
        precision.noise and f"noise {rough(precision.noise)}",
        is_measured and f"coverage {coverage.variables} of {coverage.variables_total} variables",
        is_measured and f"{coverage.parameters} of {coverage.parameters_total} parameters",
        f"{report.samples} samples",
        f"seed {report.seed}",
        is_measured and f"{report.evaluations} evaluations",
        report.replaced and f"{report.replaced} probes replaced (kink)",
        vacuous and f"{vacuous} vacuous",
        report.jitter and f"jitter {rough(report.jitter)}",
        f"{report.seconds:.2f} s",
    )
    return "; ".join(part for part in parts if part)


def _rank(comparison):
    if comparison.reason is Reason.VACUOUS:
        return 3
    return (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS).index(comparison.verdict)


def _weight(difference):
    return difference if math.isfinite(difference) else math.inf


def _listed(what, names, most=3):
    """`what: a, b, c ... and 4 more`; empty without names."""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{what}: {shown} {omission(len(names) - most, '')}".strip() if names else ""


def _cell(number, digits=1):
    """A number in a table, where what is unknown is a dash."""
    return "-" if number is None or math.isnan(number) else f"{number:.{digits}e}"


def _widths(rows):
    return [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]


def _wrapped(paragraphs):
    for text in paragraphs:
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _aligned(comparisons):
    """The table as lines; where fewer digits do not suffice for the width, the parameter's column gives way."""
    if not comparisons:
        return
    rows = fit_digits(comparisons, WIDTH)
    widths = _widths(rows)
    widths[_LABEL] -= max(0, sum(widths) + len(widths) - 1 - WIDTH)
    for row in (HEADER, *rows):
        cut = (*row[:_LABEL], shorten(row[_LABEL], widths[_LABEL]), *row[_LABEL + 1 :])
        padded = (
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cut, widths, strict=True))
        )
        yield " ".join(padded).rstrip()
