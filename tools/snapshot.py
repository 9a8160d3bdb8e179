"""What checks say, frozen: run `python -m tools.snapshot --write` or `--compare [--exact]`.

A change that only moves or renames things leaves what is said as it is. The
snapshot holds, for forty NumPy functions and sixty small cases of the corpora,
the verdict of every comparison (the same on any machine) and a digest of every
number to its last bit (the same on one machine). Words are not part of it.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib

import numpy as np

from gradhooks.reports.records import GradientComparison
from tools import oracles

FILE = pathlib.Path(__file__).parent / "snapshot.json"
SMALL_CASES = 60
SEED = 0
# The last bits of a QR decomposition differ from run to run.
UNREPEATABLE = ("orthogonal_columns", "orthogonal_rows")


def said_of_functions():
    """Yields (name, what is said) for every oracle."""
    from gradhooks.checking import run
    from gradhooks.checking.settings import Settings

    for name, oracle in oracles.build().items():
        yield f"function: {name}", _said(run.check(oracle, Settings(seed=SEED)))


def said_of_cases(names=None):
    """Yields (name, what is said) for small cases of the corpora, or for those that are named."""
    from tests.corpora import judging

    for name, case in _cases().items():
        if names is None or name in names:
            yield name, _said(judging.check_case(case, SEED))


def _cases():
    """Sixty small cases, spread over both corpora, by name."""
    from tests.corpora import controls, mutants

    every = [*mutants.CASES, *mutants.TRAIN_STEPS, *controls.CASES]
    small = [c for c in every if not (c.large or c.chaotic or c.needs or c.name in UNREPEATABLE)]
    taken = np.linspace(0, len(small) - 1, SMALL_CASES, dtype=int)
    return {f"case: {small[k].name}": small[k] for k in taken}


def _said(report):
    """The verdicts of a report, and a digest of its numbers."""
    comparisons = [_of_comparison(c) for c in report.comparisons]
    words = [[*c[:3], *c[-2:]] for c in comparisons]
    numbers = [
        str(report.relative_difference),
        str(report.loss),
        repr(report.threshold),
        repr(report.jitter),
        repr(report.precision.noise),
        report.evaluations,
        report.replaced,
        comparisons,
        [(d.path, d.terms, repr(d.ratio), repr(d.cosine), d.is_leading) for d in report.diagnoses],
        str(report.coverage),
    ]
    return {
        "verdict": f"{report.verdict} {report.reason}, {report.precision.level}",
        "culprits": sorted({d.path for d in report.diagnoses if d.is_leading}),
        "comparisons": hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16],
        "exact": hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16],
    }


def _of_comparison(comparison):
    """A comparison as a list of the fields of both kinds; NaN, 0 or False where it has none."""
    c, unknown = comparison, math.nan
    if isinstance(c, GradientComparison):
        sizes = (c.analytic_norm, c.received_norm, c.rounding, 0.0)
        slopes = (unknown, unknown)
        gradients = (c.distance, c.cosine, c.ratio, c.zeros)
        circumstances = (0.0, False, unknown)
    else:
        sizes = (c.analytic, c.numeric, c.error, c.step_size)
        slopes = (c.left, c.right)
        gradients = (unknown, unknown, unknown, unknown)
        circumstances = (c.magnitude, c.is_kink, c.truncation)
    numbers = (
        *sizes,
        c.relative_difference,
        *slopes,
        c.allowed,
        c.position,
        *gradients,
        *circumstances,
    )
    return [
        c.path,
        str(c.index),
        c.term,
        *map(repr, map(float, numbers)),
        str(c.verdict),
        str(c.reason),
    ]


def differences(found, is_exact):
    """Returns the names of what reads otherwise than in the snapshot."""
    frozen = json.loads(FILE.read_text())
    keys = ("verdict", "culprits", "comparisons", "exact") if is_exact else ("verdict", "culprits")
    return [
        name for name, said in found.items() if any(said[key] != frozen[name][key] for key in keys)
    ]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="freeze what is said now")
    parser.add_argument("--exact", action="store_true", help="compare every number to its last bit")
    asked = parser.parse_args()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    found = dict([*said_of_functions(), *said_of_cases()])
    if asked.write:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        return
    wrong = differences(found, asked.exact)
    print(f"{len(found) - len(wrong)} of {len(found)} are as they were", *wrong, sep="\n")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
