"""Variables without a gradient whose movement does not change the loss.

Either no loss reaches them, or one does, times zero. A layer that is initialized
with zeros hides all that lies below it: the gradient there is exactly zero, and
no movement shows. Where every parameter is moved a little, no factor is exactly
zero any more, and they have a gradient.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking.context import CheckContext
from gradhooks.numerics import sampling
from gradhooks.reports.text import list_names

# Distance of the nudge in units of each variable's scale. A free choice: any distance leaves exact
# zeros, and this one leaves the network what it is.
_NUDGE = 1e-2


def describe_unreached(
    context: CheckContext,
    unmoved: Sequence[int],
    unknown: Sequence[int],
) -> Iterator[str]:
    """Yields remarks for people, one for each kind of variable however many there are.

    Args:
        context: The `CheckContext`, with the oracle.
        unmoved: Numbers of variables without a gradient that were moved without
            changing the loss.
        unknown: Numbers of variables without a gradient that were not moved.
    """
    if (not unmoved and not unknown) or not context.oracle.has_gradient_elsewhere:
        return
    layout, settings = context.layout, context.settings
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.ZERO_GRADIENT)
    point = sampling.nudge(layout, context.baseline.point, context.scales, rng, _NUDGE)
    gradient: Vector = context.oracle.gradients(point).terms["total"]

    with_gradient: list[str] = []
    for v in sorted([*unmoved, *unknown]):
        part = gradient[layout.slice(v)]
        # NaN does not show that the loss depends on the variable.
        if part.any() and np.isfinite(part).all():
            with_gradient.append(layout.paths[v])
    if with_gradient:
        has = "it has a gradient" if len(with_gradient) == 1 else "they have gradients"
        yield (
            f"times zero for now: {list_names(with_gradient)} (a zero-initialized layer above, or "
            f"units that are off?); nearby {has}"
        )

    paths = [layout.paths[v] for v in unmoved if not gradient[layout.slice(v)].any()]
    if paths:
        is_one = len(paths) == 1
        them = "it" if is_one else "them"
        gradients = "its gradient is" if is_one else "their gradients are"
        yield (
            f"no loss reaches {list_names(paths)}: moving {them} changes nothing, and {gradients} "
            "zero, here and nearby"
        )

    paths = [layout.paths[v] for v in unknown if not gradient[layout.slice(v)].any()]
    if paths:
        yield (
            "not moved, since there are too many without a gradient: "
            f"{list_names(paths)}; no loss may reach them"
        )
