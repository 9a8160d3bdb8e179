"""What one check is asked to do."""

import dataclasses

from gradhooks.reports.excuses import Excuse

# Largest relative difference of a correct gradient, per level of precision. Those of "float64" and
# "model" are calibrated by `python -m tools.calibration`; that of "partial" is derived: it is the
# tolerance of gradients in float32, see verdicts/roundoff.py.
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
        check_index: Number of the check in its run; `step` if None.
        name: Name of the check.
        seen: Flat indices compared by earlier checks of the run.
        expect: Declared mismatches, pairs (path pattern, kind).
        excuses: What layers excuse whose gradient is meant to be another one.
        train_step: Whether to compare the gradient that the optimizer receives.
        has_own_loss: Whether the loss that is checked was given beside the model, so
            that the training step may compute its gradient by other code.
    """

    samples: int = 32
    threshold: float | None = None
    seed: int = 0
    step: int = 0
    check_index: int | None = None
    name: str = "gradcheck"
    seen: frozenset[int] = frozenset()
    expect: tuple[tuple[str, str], ...] = ()
    excuses: tuple[Excuse, ...] = ()
    train_step: bool = True
    has_own_loss: bool = False
