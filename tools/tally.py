"""Sums up what the corpora tests found: run `python -m tools.tally [--sweep] [--trained]`.

Runs the corpora, then prints defects caught and named, innocents accused, how
many were inconclusive, at which precision, the evaluations per probe, and the
worst relative difference between the gradient that an optimizer received and
the reference. `--trained` prints that difference for every innocent.
"""

import collections
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

from gradhooks.model import keras_internals
from gradhooks.verdicts import proof

# Verdicts that a case writes for the summary, one file per case, so that worker processes can share
# a directory.
DIRECTORY = os.environ.get("GRADHOOKS_TALLY")
# Largest relative difference of the trained gradient on a healthy model that trains in float32.
TRAINED_LIMIT = 1e-4


def note(kind, case, seed, report, model, ok):
    """Notes one verdict, if a summary was asked for."""
    if not DIRECTORY:
        return
    line = {
        "kind": kind,
        "case": case.name,
        "seed": seed,
        "ok": ok,
        "verdict": report.verdict.name,
        "level": report.precision.level,
        "evaluations": report.evaluations,
        "probes": sum(c.term == "total" for c in report.comparisons),
        "relative_difference": str(report.relative_difference.get("total")),
        "dtype": keras_internals.training_dtype(model),
        "is_declared": "expect" in case.options,
        "chaotic": case.chaotic,
        "trained": report.relative_difference.get("trained"),
        "variables": [*map(_variable, trained(report))],
        "notes": list(report.notes),
        "unproved": proof.paths_without_proof(report.comparisons),
    }
    pathlib.Path(DIRECTORY, f"{kind}-{case.name}-{seed}.json").write_text(json.dumps(line))


def trained(report):
    """Returns the comparisons of what the optimizer received."""
    return [c for c in report.comparisons if c.term == "trained"]


def _variable(comparison):
    c = comparison
    return {
        "path": c.path,
        "verdict": c.verdict.name,
        "reason": str(c.reason),
        "relative": c.relative_difference,
        "distance": c.distance,
        "allowed": c.allowed,
    }


def is_healthy_float32(line):
    """Whether a line is about a model in float32 whose trained gradient must be close."""
    return (
        line["kind"] == "innocent"
        and line["dtype"] == "float32"
        and not line["is_declared"]
        and not line["chaotic"]
    )


def collected(directory):
    """Returns the noted verdicts."""
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(directory).glob("*.json"))]


def summary(lines, with_trained=False):
    """Returns the numbers as text."""
    kinds = collections.defaultdict(list)
    for line in lines:
        kinds[line["kind"]].append(line)
    caught, innocent = kinds["mutant"], kinds["innocent"]
    accused = [line for line in innocent if not line["ok"]]
    missed = [line for line in caught if not line["ok"]]
    inconclusive = sum(line["verdict"] == "INCONCLUSIVE" for line in innocent)
    full = sum(line["level"] == "float64" for line in innocent)
    spent = evaluations_per_probe(innocent)
    rows = [
        f"defects caught and named: {len(caught) - len(missed)} of {len(caught)}",
        f"innocents accused: {len(accused)} of {len(innocent)}",
        f"innocents inconclusive: {inconclusive} of {len(innocent)}",
        f"innocents in float64 throughout: {full} of {len(innocent)}",
        f"evaluations per healthy probe over the innocents: {spent:.2f}",
    ]
    rows += trained_rows(innocent, with_trained)
    rows += [f"missed: {line['case']} at seed {line['seed']}" for line in missed]
    rows += [f"accused: {line['case']} at seed {line['seed']}" for line in accused]
    return "\n".join(rows)


def evaluations_per_probe(innocent):
    """Returns the loss evaluations per healthy probe: declared mismatches are measured again, as any is."""
    healthy = [line for line in innocent if not line["is_declared"]]
    return sum(line["evaluations"] for line in healthy) / max(
        1, sum(line["probes"] for line in healthy)
    )


def shortfalls(lines):
    """Returns what the promises about the innocents are broken by, as sentences; empty if all are kept."""
    innocent = [line for line in lines if line["kind"] == "innocent"]
    count, found = len(innocent), []
    if sum(line["verdict"] == "INCONCLUSIVE" for line in innocent) > count / 10:
        found.append("more than one innocent in ten is inconclusive")
    if sum(line["level"] == "float64" for line in innocent) < 0.9 * count:
        found.append("fewer than nine innocents in ten are in float64 throughout")
    spent = evaluations_per_probe(innocent)
    if count and not 2 <= spent <= 3:
        found.append(f"{spent:.2f} evaluations per probe are not 2 to 3")
    return found


def trained_rows(innocent, with_all):
    """Returns what the optimizer received, beside the reference: the worst in float32, and all if asked for."""
    measured = [
        line for line in innocent if line["trained"] is not None and math.isfinite(line["trained"])
    ]
    measured.sort(key=lambda line: -line["trained"])
    single = [line for line in measured if is_healthy_float32(line)]
    rows = []
    if single:
        worst = single[0]
        rows.append(
            f"trained relative difference over {len(single)} healthy checks in float32: "
            f"worst {worst['trained']:.1e} ({worst['case']} at seed {worst['seed']}), limit {TRAINED_LIMIT:.0e}"
        )
    if with_all:
        rows += [
            f"{line['trained']:.1e}  {line['dtype']:<9} {line['case']}-{line['seed']}"
            for line in measured
        ]
        rows += [
            f"not recorded  {line['case']}-{line['seed']}: {' '.join(line['notes'])}"
            for line in innocent
            if line["trained"] is None or math.isnan(line["trained"])
        ]
    return rows


def run_tests(marks, *files):
    """Runs test files of the corpora; returns `(exit code, noted lines)`."""
    here = pathlib.Path(__file__).parents[1] / "tests" / "corpora"
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            marks,
            *(str(here / file) for file in files),
        ]
        code = subprocess.run(command, env={**os.environ, "GRADHOOKS_TALLY": directory}).returncode
        return code, collected(directory)


def main():
    marks = "sweep or not sweep" if "--sweep" in sys.argv else "not sweep and not slow"
    code, lines = run_tests(marks, "test_corpora.py")
    print(summary(lines, "--trained" in sys.argv))
    broken = shortfalls(lines)
    print(*(f"broken promise: {sentence}" for sentence in broken), sep="\n")
    return code or bool(broken)


if __name__ == "__main__":
    sys.exit(main())
