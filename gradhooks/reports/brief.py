"""A report in one line: what `repr(report)` shows, in a list of reports or in a debugger."""

from gradhooks.reports.records import Report
from gradhooks.reports.table import headline
from gradhooks.reports.text import printable, shorten

# Characters of a name or of an error's message: a free choice, so that a few reports fit a screen.
SHOWN = 60


def describe_briefly(report: Report) -> str:
    """Returns verdict, reason, step, name, what was compared and where the error is made.

    Args:
        report: A `CheckReport`.

    Returns:
        str of one line, whatever the names in the report are.

    Example:

    >>> from gradhooks.reports.reasons import Reason, Verdict
    >>> describe_briefly(Report(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="ValueError: no"))
    'INCONCLUSIVE (error) at step 7, gradcheck: no comparisons, ValueError: no'
    """
    found = [count_comparisons(report)]
    if report.culprit is not None:
        place = report.culprit.path or report.culprit.kind
        found.append(f"error made in {_cut(place)}")
    if report.error:
        found.append(_cut(report.error.strip().partition("\n")[0]))
    return f"{_cut(headline(report), 2 * SHOWN)}: {', '.join(found)}"


def count_comparisons(report: Report) -> str:
    """Returns how many comparisons a report has, and how many failed or could not be decided."""
    total = len(report.comparisons)
    parts = [f"{total or 'no'} comparison{'' if total == 1 else 's'}"]
    if report.failures:
        parts.append(f"{len(report.failures)} failed")
    if report.inconclusive:
        parts.append(f"{len(report.inconclusive)} undecided")
    return ", ".join(parts)


def _cut(text: str, width: int = SHOWN) -> str:
    return shorten(printable(text), width)
