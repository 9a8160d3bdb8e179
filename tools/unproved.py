"""What a check says of each of these models at each factor: python -m tools.unproved."""

from tests.corpora.unproved import ENTRIES
from tests.corpora.unproved.judging import allowed, check_entry


def row(entry, factor):
    """One line; what must not be is marked with an exclamation mark."""
    report = check_entry(entry, factor)
    is_wrong = report.verdict not in allowed(entry, factor)
    covered = f"{report.coverage.variables} of {report.coverage.variables_total}"
    return (
        f"{'!' if is_wrong else ' '} {entry.name:43} {factor:4} "
        f"{report.verdict!s:12} {report.reason!s:20} {covered:8} "
        f"{report.precision.level:8} noise {report.precision.noise:.0e} "
        f"{report.evaluations:5} {report.seconds:5.2f} s"
    )


if __name__ == "__main__":
    for entry in ENTRIES:
        for factor in entry.factors:
            print(row(entry, factor), flush=True)
