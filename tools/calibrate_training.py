"""How far healthy trained gradients are from the reference, beside what the tolerance allows.

`python -m tools.calibrate_training` trains every small control in float32 and
in half precision, with and without XLA, and prints, per precision, the
relative difference per variable: median, 99 % and largest. Directories that
earlier runs wrote to (`GRADHOOKS_TALLY=directory python -m pytest ...`) may be
given instead; then nothing is run.
"""

import collections
import sys

import numpy as np

from gradhooks.verdicts import roundoff
from tools import tally

HEADER = (
    "variant",
    "dtype",
    "variables",
    "median",
    "99 %",
    "largest",
    "tolerance",
    "used",
    "noise",
    "left open",
)


def rows(lines):
    """Returns one tuple of strings per variant and training dtype."""
    groups = collections.defaultdict(list)
    for line in lines:
        if line["kind"] != "mutant" and line["ok"] and not line["is_declared"]:
            variant = "as written" if line["kind"] == "control" else line["kind"]
            groups[variant, line["dtype"]] += line["variables"]
    return [_row(*key, variables) for key, variables in sorted(groups.items())]


def _row(variant, dtype, variables):
    """`used`: the largest share of its allowance that any variable took; `noise`.

    Excused by the floor alone.
    """
    passed = [v for v in variables if v["verdict"] == "PASS"]
    tolerance = roundoff.tolerance(dtype)
    beyond = [v for v in passed if v["relative"] > tolerance]
    within = [v["relative"] for v in passed if v["relative"] <= tolerance] or [0.0]
    used = max((v["distance"] / v["allowed"] for v in passed if v["allowed"]), default=0.0)
    middle, most = np.quantile(within, [0.5, 0.99])
    return (
        variant,
        dtype,
        str(len(variables)),
        f"{middle:.1e}",
        f"{most:.1e}",
        f"{max(within):.1e}",
        f"{tolerance:.1e}",
        f"{used:.0%}",
        str(len(beyond)),
        str(sum(v["verdict"] == "INCONCLUSIVE" for v in variables)),
    )


def table(lines):
    """Returns the figures as text."""
    cells = [HEADER, *rows(lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def main():
    directories = sys.argv[1:]
    if directories:
        print(table([line for directory in directories for line in tally.read(directory)]))
        return 0
    code, lines = tally.run_tests("sweep", "test_variants.py")
    plain_code, plain = tally.run_tests("not sweep", "corpora/test_corpora.py")
    print(table([*plain, *lines]))
    return code or plain_code


if __name__ == "__main__":
    sys.exit(main())
