"""Sums up what the corpora tests found: run `python -m tests.tally [--sweep]`.

Runs the corpora, then prints defects caught and named, innocents accused, how
many were inconclusive, at which precision, and the evaluations per probe.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile


def collected(directory):
    """Returns the noted verdicts."""
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(directory).glob("*.json"))]


def summary(lines):
    """Returns the numbers as text."""
    kinds = collections.defaultdict(list)
    for line in lines:
        kinds[line["kind"]].append(line)
    caught, innocent = kinds["mutant"], kinds["innocent"]
    accused = [line for line in innocent if not line["ok"]]
    missed = [line for line in caught if not line["ok"]]
    inconclusive = sum(line["verdict"] == "INCONCLUSIVE" for line in innocent)
    full = sum(line["rung"] == "float64" for line in innocent)
    spent = sum(line["evaluations"] for line in innocent) / max(1, sum(line["probes"] for line in innocent))
    rows = [
        f"defects caught and named: {len(caught) - len(missed)} of {len(caught)}",
        f"innocents accused: {len(accused)} of {len(innocent)}",
        f"innocents inconclusive: {inconclusive} of {len(innocent)}",
        f"innocents in float64 throughout: {full} of {len(innocent)}",
        f"evaluations per probe over the innocents: {spent:.2f}",
    ]
    rows += [f"missed: {line['case']} at seed {line['seed']}" for line in missed]
    rows += [f"accused: {line['case']} at seed {line['seed']}" for line in accused]
    return "\n".join(rows)


def main():
    marks = "sweep or not sweep" if "--sweep" in sys.argv else "not sweep and not slow"
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            marks,
            str(pathlib.Path(__file__).with_name("test_corpora.py")),
        ]
        code = subprocess.run(command, env={**os.environ, "GRADHOOKS_TALLY": directory}).returncode
        print(summary(collected(directory)))
    return code


if __name__ == "__main__":
    sys.exit(main())
