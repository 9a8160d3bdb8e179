"""Variables without a gradient whose movement the loss does not follow: no loss reaches them, or one does, times zero.

A layer that is initialized with zeros hides all that lies below it: the
gradient there is exactly zero, and no movement shows. Where every parameter is
moved a little, nothing is exactly zero any more, and they have a gradient.
"""

import numpy as np

from gradhooks.numerics import sampling
from gradhooks.reports.text import list_names

# Off any exact zero and still the same network, in units of each variable's scale; how far does not
# matter.
_NUDGE = 1e-2


def notes(settling, unmoved, unknown):
    """Yields remarks for people, one for each kind of variable however many there are.

    Args:
        settling: The `Settling`, with the oracle.
        unmoved: Numbers of variables without a gradient that were moved, and the loss did not move.
        unknown: Numbers of variables without a gradient that were not moved.
    """
    if not unmoved and not unknown:
        return
    layout, settings = settling.layout, settling.settings
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.ZERO_GRADIENT)
    point = sampling.nudge(layout, settling.baseline.point, settling.scales, rng, _NUDGE)
    gradient = settling.oracle.gradients(point).terms["total"]

    def are(kind, variables):
        return [layout.paths[v] for v in variables if kind(gradient[layout.slice(v)])]

    if paths := are(_is_nonzero, sorted([*unmoved, *unknown])):
        has = "it has a gradient" if len(paths) == 1 else "they have gradients"
        why = "a zero-initialized layer above, or units that are off?"
        yield f"times zero for now: {list_names(paths)} ({why}); nearby {has}"
    if paths := are(_is_zero, unmoved):
        them, whose = (
            ("it", "its gradient is") if len(paths) == 1 else ("them", "their gradients are")
        )
        yield f"no loss reaches {list_names(paths)}: moving {them} changes nothing, and {whose} zero, here and nearby"
    if paths := are(_is_zero, unknown):
        yield f"not moved, since there are too many without a gradient: {list_names(paths)}; no loss may reach them"


def _is_zero(part):
    return not part.any()


def _is_nonzero(part):
    # NaN says nothing about what reaches what.
    return part.any() and np.isfinite(part).all()
