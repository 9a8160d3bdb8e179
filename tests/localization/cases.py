"""All localization cases."""

from tests.localization import (
    activations,
    calls,
    loops,
    objectives,
    penalties,
    pooling,
    readers,
    replaced,
    sharing,
    steps,
    stopped,
    structure,
    untold,
    weights,
)

CASES = [
    *activations.CASES,
    *pooling.CASES,
    *weights.CASES,
    *structure.CASES,
    *sharing.CASES,
    *readers.CASES,
    *replaced.CASES,
    *loops.CASES,
    *calls.CASES,
    *objectives.CASES,
    *penalties.CASES,
    *stopped.CASES,
    *steps.CASES,
    *untold.CASES,
]

GROUPS = {case.group: case for case in reversed(CASES)}  # the first case of each group
