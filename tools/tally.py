"""Counts what the corpora found: run `python -m tools.tally [--sweep] [--trained]`.

Runs the corpora, then prints how many mutants were caught and named, how many
controls failed, how many were inconclusive, at which precision, the evaluations
per probe, and the worst relative difference between the gradient that an
optimizer received and the reference. `--trained` prints that difference for
every control.
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
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import proof

# Where cases write their verdicts, one file a case, so that worker processes can share it.
DIRECTORY = os.environ.get("GRADHOOKS_TALLY")
# Largest relative difference of the optimizer gradient of a control that trains in float32.
# Calibrated: this command prints the largest that occurs.
TRAINED_LIMIT = 1e-4
# Most loss evaluations per probe of a control, on average: a promise of `docs/cost.md`.
MOST_EVALUATIONS = 1.5


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
    return [c for c in report.comparisons if isinstance(c, GradientComparison)]


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
        line["kind"] == "control"
        and line["dtype"] == "float32"
        and not line["is_declared"]
        and not line["chaotic"]
    )


def read(directory):
    """Returns the noted verdicts."""
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(directory).glob("*.json"))]


def summary(lines, with_trained=False):
    """Returns the numbers as text."""
    kinds = collections.defaultdict(list)
    for line in lines:
        kinds[line["kind"]].append(line)
    mutants, controls = kinds["mutant"], kinds["control"]
    missed = [line for line in mutants if not line["ok"]]
    failed = [line for line in controls if not line["ok"]]
    inconclusive = sum(line["verdict"] == "INCONCLUSIVE" for line in controls)
    in_float64 = sum(line["level"] == "float64" for line in controls)
    rows = [
        f"mutants caught and named: {len(mutants) - len(missed)} of {len(mutants)}",
        f"controls failed: {len(failed)} of {len(controls)}",
        f"controls inconclusive: {inconclusive} of {len(controls)}",
        f"controls in float64 throughout: {in_float64} of {len(controls)}",
        f"evaluations per probe of a control: {evaluations_per_probe(controls):.2f}",
    ]
    rows += trained_rows(controls, with_trained)
    rows += [f"missed: {line['case']} at seed {line['seed']}" for line in missed]
    rows += [f"failed: {line['case']} at seed {line['seed']}" for line in failed]
    return "\n".join(rows)


def evaluations_per_probe(controls):
    """Returns the loss evaluations per probe of controls without declared mismatches.

    Declared mismatches are left out because they are measured again, as every mismatch is.
    """
    undeclared = [line for line in controls if not line["is_declared"]]
    evaluations = sum(line["evaluations"] for line in undeclared)
    probes = sum(line["probes"] for line in undeclared)
    return evaluations / max(1, probes)


def shortfalls(lines):
    """Returns a sentence for every promise about the controls that does not hold."""
    controls = [line for line in lines if line["kind"] == "control"]
    count = len(controls)
    inconclusive = sum(line["verdict"] == "INCONCLUSIVE" for line in controls)
    in_float64 = sum(line["level"] == "float64" for line in controls)
    evaluations = evaluations_per_probe(controls)
    sentences = []
    if inconclusive > count / 10:
        sentences.append("more than one control in ten is inconclusive")
    if in_float64 < 0.9 * count:
        sentences.append("fewer than nine controls in ten are in float64 throughout")
    if count and evaluations > MOST_EVALUATIONS:
        sentences.append(
            f"{evaluations:.2f} evaluations per probe are more than {MOST_EVALUATIONS}"
        )
    return sentences


def trained_rows(controls, with_all):
    """Returns how far optimizer gradients are from the reference: the worst in float32, or all."""
    measured = [
        line for line in controls if line["trained"] is not None and math.isfinite(line["trained"])
    ]
    measured.sort(key=lambda line: -line["trained"])
    single = [line for line in measured if is_healthy_float32(line)]
    rows = []
    if single:
        worst = single[0]
        rows.append(
            f"trained relative difference over {len(single)} healthy checks in float32: "
            f"worst {worst['trained']:.1e} ({worst['case']} at seed {worst['seed']}), "
            f"limit {TRAINED_LIMIT:.0e}"
        )
    if with_all:
        rows += [
            f"{line['trained']:.1e}  {line['dtype']:<9} {line['case']}-{line['seed']}"
            for line in measured
        ]
        rows += [
            f"not recorded  {line['case']}-{line['seed']}: {' '.join(line['notes'])}"
            for line in controls
            if line["trained"] is None or math.isnan(line["trained"])
        ]
    return rows


def run_tests(marks, *files):
    """Runs test files, given by their paths in `tests`; returns `(exit code, noted lines)`."""
    tests = pathlib.Path(__file__).parents[1] / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks]
    command += [str(tests / file) for file in files]
    with tempfile.TemporaryDirectory() as directory:
        code = subprocess.run(command, env={**os.environ, "GRADHOOKS_TALLY": directory}).returncode
        return code, read(directory)


def main():
    marks = "sweep or not sweep" if "--sweep" in sys.argv else "not sweep"
    code, lines = run_tests(marks, "corpora/test_corpora.py")
    print(summary(lines, "--trained" in sys.argv))
    broken = shortfalls(lines)
    print(*(f"broken promise: {sentence}" for sentence in broken), sep="\n")
    return code or bool(broken)


if __name__ == "__main__":
    sys.exit(main())
