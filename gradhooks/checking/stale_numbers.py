"""Notices that compiled code goes on with Python numbers that have changed since."""

import math
from collections.abc import Iterator

from gradhooks.checking.context import CheckContext


def describe_stale_numbers(context: CheckContext) -> Iterator[str]:
    """Describes a loss that is another one than the loss that was traced, and what has changed."""
    before = float(context.baseline.base[0])
    found = context.oracle.recompute_loss(context.baseline.point, before)
    if found is None:
        return
    now, changes = found
    if math.isfinite(now) and abs(now - before) > context.threshold * abs(before):
        yield (
            f"the code now computes the loss {now:.4g}, what was compiled {before:.4g}: "
            f"{' and '.join(changes)}; a Python number stays what it was when the code was traced, "
            "so that training does not see it change: use a variable, or compile the model again"
        )
