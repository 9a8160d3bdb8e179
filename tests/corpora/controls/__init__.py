"""Models whose gradient is right, or declared. None may fail.

`CASES` holds those written for the purpose, `TWINS` the healthy twin of every
mutant, which must not fail either.
"""

from tests.corpora.controls import (
    applications,
    architectures,
    chaos,
    core_layers,
    declared,
    hub,
    kinks,
    machinery,
    objectives,
    penalties,
    precision,
    randomness,
    recurrent,
    train_steps,
    twins,
)

CASES = [
    *architectures.CASES,
    *core_layers.CASES,
    *kinks.CASES,
    *chaos.CASES,
    *randomness.CASES,
    *precision.CASES,
    *objectives.CASES,
    *penalties.CASES,
    *recurrent.CASES,
    *declared.CASES,
    *machinery.CASES,
    *train_steps.CASES,
    *hub.CASES,
    *applications.CASES,
]

TWINS = list(twins.CASES)
