"""Models whose gradient is wrong. Each must fail, with the wrong layer named.

`CASES` holds models whose backpropagation is wrong, `TRAIN_STEPS` models whose
backpropagation is right and whose optimizer receives something else; all of
them must be judged FAIL. `UNREACHED` holds weights that no loss reaches:
nothing to compare there, but a report must name them.
"""

from tests.corpora.mutants import (
    attention,
    blocked,
    chaos,
    crowded,
    factors,
    lookups,
    losses,
    nonfinite,
    normalization,
    recurrence,
    regularizers,
    sharing,
    straight_through,
    train_steps,
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
    *crowded.CASES,
    *chaos.CASES,
]

UNREACHED = list(unreached.CASES)

TRAIN_STEPS = list(train_steps.CASES)
