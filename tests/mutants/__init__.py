"""Models whose gradient is wrong. Each must be caught, and the culprit named.

`CASES` holds all that must be judged FAIL. `UNREACHED` holds weights that no
loss reaches: nothing to compare there, but a report must name them.
"""

from tests.mutants import (
    attention,
    blocked,
    factors,
    lookups,
    losses,
    nonfinite,
    normalization,
    recurrence,
    regularizers,
    sharing,
    straight_through,
    transposed,
    units,
    unreached,
)

CASES = [
    *factors.CASES,
    *units.CASES,
    *transposed.CASES,
    *blocked.CASES,
    *straight_through.CASES,
    *recurrence.CASES,
    *losses.CASES,
    *regularizers.CASES,
    *lookups.CASES,
    *sharing.CASES,
    *normalization.CASES,
    *attention.CASES,
    *nonfinite.CASES,
]

UNREACHED = list(unreached.CASES)
