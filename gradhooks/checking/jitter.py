"""Do loss and gradient give other numbers when they are evaluated again at the same point?"""

import dataclasses
import itertools
from collections.abc import Mapping

from gradhooks._types import Vector
from gradhooks.checking.context import CheckContext
from gradhooks.numerics import determinism
from gradhooks.numerics.probe import uncancelled_magnitudes

# Jitter of a gradient above this fraction of the threshold is evaluated more often: entries a
# thousand times smaller than their variable may fail by it. A free choice that changes the cost.
_VISIBLE = 1e-3
# How often. With two evaluations alone, four of their standard deviations do not cover every sixth
# error of a variable whose entries jitter together; with six, every hundredth (Student's t with one
# and five degrees of freedom).
_MORE_GRADIENTS = 4


def describe_loss_jitter(context: CheckContext) -> list[str]:
    """Returns by how much the loss changes, if that is more than the threshold; else nothing."""
    at = context.baseline
    if not at.is_jittering or context.screening is None:
        return []
    # By how much the loss changes if every parameter changes by its own size.
    moved = uncancelled_magnitudes(context.screening, at.gradients)[0]
    fraction = determinism.relative_loss_jitter(at.jitter, at.base[0], moved)
    if not fraction > context.threshold:
        return []
    return [
        "the loss changes between two evaluations at the same point: "
        f"by {at.jitter:.2g}, {fraction:.2g} of its size"
    ]


def find_gradient_jitter(context: CheckContext, is_first: bool) -> tuple[CheckContext, list[str]]:
    """Evaluates the gradient again where it may jitter.

    Args:
        context: The `CheckContext`.
        is_first: Whether no check has asked the oracle before. A gradient may change between
            evaluations although the loss does not; later checks need not test that again.

    Returns:
        (the context with the noise of the gradient, which the oracle keeps too; for each
        variable that differs by more than the threshold, by how much).
    """
    oracle, at = context.oracle, context.baseline
    if not (is_first or at.is_jittering or oracle.gradient_noise is not None):
        return context, []
    again = oracle.gradients(at.point).terms
    visible = determinism.gradient_jitter(
        oracle.layout, at.gradients, again, _VISIBLE * context.threshold
    )
    jitter = {v: share for v, share in visible.items() if share > context.threshold}
    more = _MORE_GRADIENTS if visible and not jitter else 0
    sentences: list[str] = []
    for variable, fraction in sorted(jitter.items(), key=lambda pair: -pair[1]):
        sentences.append(
            "the gradient changes between two evaluations at the same point: "
            f"{oracle.layout.paths[variable]} by {fraction:.2g} of its size"
        )
    return _estimate_noise(context, again, more), sentences


def _estimate_noise(context: CheckContext, again: Mapping[str, Vector], more: int) -> CheckContext:
    """Returns the context with the noise of the gradient, and keeps it in the oracle.

    Args:
        context: The `CheckContext`.
        again: The gradient of every term, evaluated a second time.
        more: How many times more it is evaluated.
    """
    oracle, at = context.oracle, context.baseline
    further = (oracle.gradients(at.point).terms for _ in range(more))
    noise = determinism.gradient_noise(
        oracle.layout, at.gradients, itertools.chain([again], further)
    )
    if not noise.any():
        return context
    oracle.gradient_noise = noise
    return dataclasses.replace(context, baseline=dataclasses.replace(at, gradient_noise=noise))
