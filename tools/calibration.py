"""How small a threshold the healthy models bear.

Run `python -m tools.calibration [--seeds 3] [--part 0/4]`.

Every control and every twin of a mutant is checked at the best precision and at its own,
with the default threshold and with parts of it. Large models and declared
mismatches are left out. The rule: default thresholds are powers of ten, and each is
the smallest at 0.3 times which no healthy model fails and a healthy parameter takes
three evaluations on average at most; the factor 0.3 is a margin for machines that
round differently. At smaller thresholds error bars and replicates keep healthy
models from failing too, but at the price of more evaluations. At the level `partial`
there are too few models for that rule: there the threshold is what training in
float32 explains (`roundoff.tolerance`).

The summary also says what the first measurement alone would have given: the *excess*
of a healthy comparison is its gap beyond the error bar, in units of its size;
"failed at first" counts the checks with a failure that confirmation then withdrew.
"""

import argparse
import collections
import dataclasses
import importlib.util
import json
import math
import pathlib
import sys
from unittest import mock

import keras
import numpy as np

from gradhooks.checking import resolve, run
from gradhooks.checking.confirm import confirm
from gradhooks.checking.settings import THRESHOLDS, Settings
from gradhooks.model import batch, objective, oracle
from gradhooks.reports.reasons import Reason, Verdict
from tests.corpora import controls

# Shares of the default threshold that are tried; the second is the margin of the rule, the third
# that of the next smaller power of ten, at which the rule must be broken.
SHARES = (1.0, 0.3, 0.03)
# Reasons for which a comparison says nothing about the threshold.
_EXCUSED = (Reason.KINK, Reason.VACUOUS, Reason.NOISE, Reason.NON_FINITE_LOSS)


@dataclasses.dataclass(frozen=True)
class Line:
    """One check of a healthy model.

    Args:
        case: Name of the case.
        seed: Its seed.
        precision: What was asked for.
        level: What was reached.
        threshold: With which it was checked.
        verdict: Verdict of the whole check.
        excess: The largest gap beyond the error bar, in units of the size.
        excesses: Those of all comparisons, sampled for the distribution.
        culprit: Label of the worst comparison.
        failures: Comparisons that the first measurement alone would have failed.
        evaluations: Losses evaluated.
        probes: Probes measured.
    """

    case: str
    seed: int
    precision: str
    level: str
    threshold: float
    verdict: str
    excess: float
    excesses: list
    culprit: str
    failures: int
    evaluations: int
    probes: int


def excesses(layout, measured):
    """Yields (excess, label, whether it failed) of every term of a measurement that could be
    decided.
    """
    for term, (analytic, estimate, magnitude, (judged, reason)) in enumerate(
        zip(
            measured.analytic,
            measured.estimates,
            measured.magnitude,
            measured.judgements,
            strict=True,
        )
    ):
        size = max(abs(analytic) + abs(estimate.slope), magnitude)
        if reason in _EXCUSED or not size or not math.isfinite(estimate.error):
            continue
        probe = measured.probe
        label = (
            layout.label(probe.start)
            if probe.is_coordinate
            else f"direction from {layout.label(probe.start)}"
        )
        yield (
            (abs(analytic - estimate.slope) - estimate.error) / size,
            f"{label} term {term}",
            judged is Verdict.FAIL,
        )


def watched(asked, settings):
    """Checks, and returns the report with everything that one quotient did not decide, as the
    sequence of steps left it.

    What a quotient did decide agrees to within the threshold, and at a smaller one would have been
    measured better.
    """
    seen = []

    def confirm_and_note(context, measurements):
        seen.extend(m for m in measurements if not context.is_declared(m))
        return confirm(context, measurements)

    with mock.patch.object(resolve, "confirm", confirm_and_note):
        return run.check(asked, settings), seen


def lines(case, seed, precision, shares=SHARES):
    """Yields a `Line` per threshold for one case."""
    keras.utils.clear_session(free_memory=False)
    model, x, y, *weights = case.build(seed)
    if not model.built:
        model(x)
    fixed = batch.take_batch(
        x, y, weights[0] if weights else None, None, case.options.get("batch_size", 32)
    )
    target = objective.Objective(
        model, case.options.get("training", True), case.options.get("loss_fn")
    )
    asked = oracle.ModelOracle(target, fixed, precision)
    default = THRESHOLDS[asked.precision.level]
    for share in shares:
        settings = Settings(threshold=share * default, seed=seed, train_step=False)
        report, seen = watched(asked, settings)
        found = sorted((e for m in seen for e in excesses(asked.layout, m)), reverse=True)
        worst = found[0] if found else (0.0, "", False)
        yield Line(
            case.name,
            seed,
            precision,
            asked.precision.level,
            share * default,
            report.verdict.name,
            float(worst[0]),
            [float(f"{e:.3g}") for e, _, _ in found[:40]],
            worst[1],
            sum(f for _, _, f in found),
            report.evaluations,
            sum(c.term == "total" for c in report.comparisons),
        )


def collect(cases, seeds, precisions=("auto", "model"), out=None, shares=SHARES):
    """Returns the lines of all cases; writes each to `out` at once, as JSON."""
    found = []
    for case in cases:
        if (
            case.large
            or "expect" in case.options
            or (case.needs and importlib.util.find_spec(case.needs) is None)
        ):
            continue
        for seed in seeds:
            for precision in precisions:
                try:
                    checked = list(lines(case, seed, precision, shares))
                except Exception as error:  # the figures of the others must not be lost
                    print(
                        f"not checked: {case.name} at seed {seed}, "
                        f"precision {precision!r}: {error!r}",
                        flush=True,
                    )
                    continue
                found += checked
                if out:
                    print(
                        *(json.dumps(dataclasses.asdict(line)) for line in checked),
                        sep="\n",
                        file=out,
                        flush=True,
                    )
    return found


def summary(found):
    """Returns the distribution per level and threshold as text, with the names of the worst."""
    groups = collections.defaultdict(list)
    for line in found:
        groups[line.level, line.threshold].append(line)
    rows = []
    for (level, threshold), group in sorted(groups.items(), key=lambda g: (g[0][0], -g[0][1])):
        values = np.array([max(line.excess, 0.0) for line in group])
        worst = sorted(group, key=lambda line: -line.excess)[:4]
        failed = [f"{line.case}-{line.seed}" for line in group if line.verdict == "FAIL"]
        evaluations = sum(line.evaluations for line in group)
        probes = sum(line.probes for line in group)
        rows += [
            f"{level} at {threshold:.0e}: {len(group)} checks, "
            f"largest excess: median {np.median(values):.1e}, "
            f"99 % {np.quantile(values, 0.99):.1e}, max {values.max():.1e}; "
            f"evaluations per probe {evaluations / max(1, probes):.2f}; "
            f"inconclusive {sum(g.verdict == 'INCONCLUSIVE' for g in group)}; "
            f"failed at first {sum(g.failures > 0 for g in group)}, "
            f"failed in the end {len(failed)} {failed}",
            *(
                f"    {line.case} at seed {line.seed}: {line.excess:.1e} in {line.culprit}"
                for line in worst
            ),
        ]
    return "\n".join(rows)


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0")
    parser.add_argument("--part", default="0/1", help="which part of the cases, as number/count")
    parser.add_argument("--precision", choices=("auto", "model"), help="only this precision")
    parser.add_argument(
        "--shares", type=float, nargs="*", default=SHARES, help="shares of the default threshold"
    )
    parser.add_argument("--out", help="file to add JSON lines to")
    parser.add_argument("--only", default="", help="only cases with this in their name")
    parser.add_argument("--read", nargs="*", help="sum up these files in place of measuring")
    asked = parser.parse_args()
    if asked.read:
        texts = [pathlib.Path(name).read_text() for name in asked.read]
        print(summary([Line(**json.loads(text)) for whole in texts for text in whole.splitlines()]))
        return
    number, count = map(int, asked.part.split("/"))
    cases = [c for c in (*controls.CASES, *controls.TWINS) if asked.only in c.name][number::count]
    precisions = (asked.precision,) if asked.precision else ("auto", "model")
    out = open(asked.out, "a") if asked.out else None  # noqa: SIM115 - open until the process ends
    print(summary(collect(cases, range(asked.seeds), precisions, out, asked.shares)))


if __name__ == "__main__":
    sys.exit(main())
