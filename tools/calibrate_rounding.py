"""How much larger an error of the trained gradient is than what a unit of roundoff does to the
gradient.

`python -m tools.calibrate_rounding [policy ...]` prints, for healthy models
that multiply rounding and for wrong train steps, at several precisions, how many
variables differ by more than the tolerance, how many of these by more than
`roundoff.CONDITION` allows, and the least and the largest of these ratios. Of
the wrong ones none may be allowed; healthy ones that are not are left to what is
seen at another point.
"""

import math
import sys

import keras

from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from gradhooks.numerics import sampling
from gradhooks.reports.errors import RecordingError
from gradhooks.verdicts import optimizer_gradient, roundoff
from tests.corpora.controls import chaos, kinks, precision
from tests.corpora.controls import train_steps as right_steps
from tests.corpora.corpus import dtype_policy
from tests.corpora.mutants import train_steps as wrong_steps

POLICIES = ("float32", "mixed_bfloat16", "bfloat16", "mixed_float16", "float16")
HEALTHY = [*chaos.CASES, *kinks.CASES, *precision.CASES, *right_steps.CASES]
# Underflow is a matter of its own, and so is a variable that gets no gradient.
WRONG = [
    case for case in wrong_steps.CASES if "underflow" not in case.name and "drops" not in case.name
]
DRAWS = 3


def ratios(case, policy, seed):
    """The ratio of every variable of a case that differs by more than the tolerance and not by
    underflow.
    """
    with dtype_policy(policy):
        model, x, y, *weights = case.build(seed)
    asked = oracle.ModelOracle(
        objective.Objective(model), batches.take_batch(x, y, *weights, batch_size=len(x))
    )
    dtype, layout, point = asked.training_dtype, asked.layout, asked.point()
    gradient = asked.gradients(point).terms["total"]
    recording = asked.record()
    received = optimizer_gradient.OptimizerGradient(
        layout, gradient, recording.gradient, recording.received
    )
    scales, found = sampling.variable_scales(layout, point), {}
    for replicate in range(DRAWS):
        rng = sampling.generator(0, 0, sampling.Stream.TRAINED_ROUNDING, replicate)
        there = sampling.nudge(layout, point, scales, rng, roundoff.rounding(dtype))
        changes = layout.norms(asked.gradients(there).terms["total"] - gradient)
        for v in optimizer_gradient.find_beyond_rounding(
            received, gradient, optimizer_gradient.find_disagreeing(received, dtype), "float32"
        ):
            found[v] = max(found.get(v, 0.0), float(changes[v]))
    shares = [
        float(received.distances[v]) / change if change else math.inf for v, change in found.items()
    ]
    return [share for share in shares if not math.isnan(share)]


def main():
    for policy in sys.argv[1:] or POLICIES:
        for name, cases in (("healthy", HEALTHY), ("wrong", WRONG)):
            found = {}
            for case in cases:
                keras.backend.clear_session()
                try:
                    found[case.name] = (
                        [] if case.needs or case.options else ratios(case, policy, seed=0)
                    )
                except (RecordingError, TypeError, ValueError):
                    continue  # not every case can be built, or trained, at every policy
            seen = {case: shares for case, shares in found.items() if shares}
            count = sum(map(len, seen.values()))
            print(
                f"{policy:15s}{name:8s}{len(found):3d} models, "
                f"{count:3d} variables beyond the tolerance",
                end="",
            )
            if seen:
                least, most = (
                    min(seen, key=lambda c: min(seen[c])),
                    max(seen, key=lambda c: max(seen[c])),
                )
                beyond = sum(
                    share > roundoff.CONDITION for shares in seen.values() for share in shares
                )
                print(f", {beyond} beyond {roundoff.CONDITION:g} times", end="")
                print(
                    f"; {min(seen[least]):.2g} ({least}) to {max(seen[most]):.2g} ({most})", end=""
                )
            print(flush=True)


if __name__ == "__main__":
    main()
