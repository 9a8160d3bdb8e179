"""What one check is asked to do."""

import dataclasses

# Largest relative difference of a correct gradient, per level of the precision ladder; README tells
# how they were found.
THRESHOLDS = {"float64": 1e-7, "partial": 1e-4, "model": 1e-2}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one check is asked to do.

    Args:
        samples: Number of sampled parameters.
        threshold: Relative difference above which a comparison can fail; None
            for the default of the precision in use.
        seed: Seed of the sampling.
        step: Count of training batches before the check.
        turn: Number of the check in its run; `step` if None.
        name: Name of the check.
        seen: Flat indices compared by earlier checks of the run.
        expect: Declared mismatches, pairs (path pattern, kind).
        train_step: Whether to compare what the optimizer receives.
    """

    samples: int = 32
    threshold: float | None = None
    seed: int = 0
    step: int = 0
    turn: int | None = None
    name: str = "gradcheck"
    seen: frozenset = frozenset()
    expect: tuple = ()
    train_step: bool = True
