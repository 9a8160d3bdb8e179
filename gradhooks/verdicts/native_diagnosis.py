"""What training loses to its own precision, in words: the dtype, the numbers, the layer."""

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np

from gradhooks.numerics.departure import Departure, Location
from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TRAINED, Diagnosis, GradientComparison

# Reasons that `diagnose` explains.
REASONS = (
    Reason.NON_FINITE_TRAINING,
    Reason.NON_FINITE_GRADIENT,
    Reason.UNDERFLOW,
    Reason.LOST_PRECISION,
)
_HALF_PRECISION = ("float16", "bfloat16")
_BACKWARD_LOCATIONS = (Location.LOSS_SLOPE, Location.BACKWARD, Location.REACHED)


@functools.cache
def limits(dtype: str) -> tuple[float, float]:
    """Returns the largest number of a dtype, and the smallest that does not become zero.

    Where float16 is computed in float32, numbers below its normal range survive;
    those of the other formats become zero on most devices.

    Args:
        dtype: Name of a float dtype, `"bfloat16"` included.

    Example:

    >>> [f"{limit:.5g}" for limit in limits("float16")], f"{limits('bfloat16')[0]:.1e}"
    (['65504', '5.9605e-08'], '3.4e+38')
    """
    try:
        info = cast(Any, np.finfo(dtype))
    except (TypeError, ValueError):
        # NumPy does not know bfloat16. Keras depends on the package that does.
        info = cast(Any, ml_dtypes.finfo(dtype))
    smallest = info.smallest_subnormal if dtype == "float16" else info.smallest_normal
    return float(info.max), float(smallest)


def diagnose(
    layout: Layout,
    comparisons: Sequence[GradientComparison],
    dtype: str,
    losses: tuple[float, float],
    scale: float,
    departure: Departure | None,
) -> tuple[Diagnosis, ...]:
    """Returns one `Diagnosis` for each failure that the precision of training causes.

    Args:
        layout: The `Layout`.
        comparisons: Comparisons of the optimizer gradient.
        dtype: Name of the dtype that training computes in.
        losses: The loss as training computes it, NaN where it is unknown, and in
            float64.
        scale: Loss scale at which the gradient is not finite, or vanishes.
        departure: Where native precision departs from float64; None where that
            is unknown.
    """
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL and c.reason in REASONS]
    if not failed:
        return ()
    lost = [c.zeros for c in failed if c.reason is Reason.UNDERFLOW]
    share = f"{'up to ' if len(failed) > 1 else ''}{max(lost, default=0.0):.0%} of the gradient"
    sentences = {
        Reason.NON_FINITE_TRAINING: _describe_loss(dtype, losses, departure),
        Reason.NON_FINITE_GRADIENT: _describe_gradient(dtype, losses[0], scale, departure),
        Reason.LOST_PRECISION: _describe_lost_digits(dtype, failed, departure),
        Reason.UNDERFLOW: _describe_underflow(dtype, share, scale, departure),
    }
    leading = _choose_leading(layout, failed, departure)
    diagnoses: list[Diagnosis] = []
    for c in failed:
        sentence = sentences[c.reason]
        diagnoses.append(
            Diagnosis(c.path, sentence, (TRAINED,), c.ratio, c.cosine, is_leading=c is leading)
        )
    return tuple(sorted(diagnoses, key=lambda d: not d.is_leading))


def describe_scaling(dtype: str, scale: float) -> str:
    """Returns the note about a step that loss scaling leaves out."""
    return (
        f"the gradient is not finite in {dtype} at the loss scale {scale:g}, and finite at 1: loss "
        "scaling leaves this step out and goes on with a smaller scale"
    )


def describe_loss_gap(
    dtype: str,
    native: float,
    wide: float,
    is_same: bool | None,
    is_right: bool,
) -> str:
    """Returns the note about two losses that differ by more than rounding.

    Args:
        dtype: Name of the dtype that training computes in.
        native: What `train_step` calls the loss.
        wide: What the check computes in float64.
        is_same: Whether the loss that the check differentiates gives the native
            number when it is evaluated as training does; None where that is
            unknown.
        is_right: Whether the gradients agree all the same.
    """
    loss = _format(native)
    if is_same:
        return f"the loss is {loss} as training computes it in {dtype}, and {wide:.4g} in float64"
    words = f"train_step computes the loss {loss}, the check {wide:.4g}"
    if is_right:
        cause = "a part of the batch or of the loss, a constant beside it, lost digits?"
        return f"{words} in float64; the gradients agree ({cause})"
    if is_same is None:
        return words
    return f"{words}: not the same loss (another one in train_step, or compute_loss?)"


def _choose_leading(
    layout: Layout,
    failed: Sequence[GradientComparison],
    departure: Departure | None,
) -> GradientComparison:
    """The variable that lost most to underflow, else one of the layer where it begins.

    Among several the last one in forward order.
    """
    layer = departure.layer if departure is not None else ""
    order = {path: number for number, path in enumerate(layout.paths)}

    def rank(comparison: GradientComparison) -> tuple[float, bool, int]:
        zeros = comparison.zeros if comparison.reason is Reason.UNDERFLOW else 0.0
        is_in_layer = bool(layer) and comparison.path.startswith(f"{layer}/")
        return zeros, is_in_layer, order.get(comparison.path, -1)

    return max(failed, key=rank)


def _describe_loss(
    dtype: str,
    losses: tuple[float, float],
    departure: Departure | None,
) -> str:
    native, wide = losses
    words = f"the loss is {_format(native)} in {dtype} and {wide:.4g} in float64"
    where = _locate(dtype, departure)
    return f"{words}: {where}{_describe_limits(dtype)} (a mask of -1e9, log(p + 1e-8)?)"


def _describe_gradient(
    dtype: str,
    native_loss: float,
    scale: float,
    departure: Departure | None,
) -> str:
    words = f"the gradient is NaN or infinite in {dtype} while the loss is finite"
    if math.isfinite(native_loss):
        words += f" ({native_loss:.4g})"
    if scale != 1:
        return (
            f"{words}: the fixed loss scale {scale:g} is too large, at 1 it is finite; use "
            "keras.optimizers.LossScaleOptimizer"
        )
    where = _locate(dtype, departure)
    return f"{words}, and finite in float64: {where}{_describe_limits(dtype)}"


def _describe_underflow(
    dtype: str,
    share: str,
    scale: float,
    departure: Departure | None,
) -> str:
    where = _locate(dtype, departure)
    is_backward = departure is None or departure.location in _BACKWARD_LOCATIONS
    if departure is not None and departure.has_vanished and not is_backward:
        advice = "scale it up" if dtype == "float32" else "scale it up, or compute it in float32"
        return f"{share} is lost in {dtype}: {where}{_describe_limits(dtype)}; {advice}"
    if dtype not in _HALF_PRECISION:
        advice = "scale the loss up"
    elif scale == 1:
        advice = "use loss scaling"
    else:
        advice = f"the loss scale {scale:g} is too small"
    words = f"{share} underflows to zero in {dtype}: {advice}"
    return f"{words}; {where.removesuffix('; ')}" if where else words


def _describe_lost_digits(
    dtype: str,
    failed: Sequence[GradientComparison],
    departure: Departure | None,
) -> str:
    differences = [c.relative_difference for c in failed if c.reason is Reason.LOST_PRECISION]
    largest = max(differences, default=math.nan)
    where = _locate(dtype, departure).removesuffix("; ")
    cause = where or "digits are lost (a large number added to a small one?)"
    return (
        f"in {dtype} the gradient differs by up to {largest:.1g} from that in float64, in the "
        f"check as in train_step: {cause}"
    )


def _locate(dtype: str, departure: Departure | None) -> str:
    """Says where the departure begins, with a semicolon behind; empty where that is unknown."""
    if departure is None:
        return ""
    values = "the first value that is not finite"
    if departure.has_vanished:
        values = f"zeros where float64 has values of {departure.size:.2g}"
    layer = departure.layer
    return {
        Location.INPUT: f"the inputs already become {values}, once they are cast to {dtype}; ",
        Location.CALL: f"{layer} returns {values}; ",
        Location.BETWEEN: f"{layer} receives {values}, which no layer has returned; ",
        Location.LOSS: f"the loss makes {values}, from outputs that are as in float64; ",
        Location.LOSS_SLOPE: (
            f"the gradient of the loss with respect to the outputs already has {values}; "
        ),
        Location.BACKWARD: f"the gradient that {layer} passes down has {values}; ",
        Location.REACHED: f"the gradient that reaches {layer} has {values}; ",
    }[departure.location]


def _describe_limits(dtype: str) -> str:
    largest, smallest = limits(dtype)
    return f"something overflows {largest:.5g} or vanishes below {smallest:.1g}"


def _format(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "infinite" if math.isinf(number) else f"{number:.4g}"
