"""What training loses to its own precision, in words: dtype, numbers, and the layer where it begins."""

import functools
import math

import ml_dtypes
import numpy as np

from gradhooks.numerics.departure import Location
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TRAINED, Diagnosis

# What `diagnose` finds words for.
_BACKWARD = (Location.LOSS_SLOPE, Location.BACKWARD, Location.REACHED)
REASONS = (
    Reason.NON_FINITE_TRAINING,
    Reason.NON_FINITE_GRADIENT,
    Reason.UNDERFLOW,
    Reason.LOST_PRECISION,
)


@functools.cache
def limits(dtype):
    """Returns the largest number of a dtype, and the smallest that is not taken for zero.

    Where float16 is computed in float32 it keeps numbers below its normal
    range; those of the other formats become zero on most devices.

    Example:

    >>> [f"{limit:.5g}" for limit in limits("float16")], f"{limits('bfloat16')[0]:.1e}"
    (['65504', '5.9605e-08'], '3.4e+38')
    """
    try:
        found = np.finfo(dtype)
    except (TypeError, ValueError):  # NumPy does not know bfloat16; with Keras comes what does
        found = ml_dtypes.finfo(dtype)
    smallest = found.smallest_subnormal if dtype == "float16" else found.smallest_normal
    return float(found.max), float(smallest)


def diagnose(layout, comparisons, dtype, losses, scale, departure):
    """Returns one `Diagnosis` for each failure that the precision of training is to blame for.

    Args:
        layout: The `Layout`.
        comparisons: Comparisons of the term `"trained"`.
        dtype: Name of the dtype that training computes in.
        losses: The loss as training computes it, NaN where it is not known,
            and in float64.
        scale: Loss scale at which the gradient is not finite, or vanishes.
        departure: A `departure.Departure`, or None.
    """
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL and c.reason in REASONS]
    if not failed:
        return ()
    lost = max((c.zeros for c in failed if c.reason is Reason.UNDERFLOW), default=0.0)
    words = {
        Reason.NON_FINITE_TRAINING: _of_loss(dtype, losses, departure),
        Reason.NON_FINITE_GRADIENT: _of_gradient(dtype, losses, scale, departure),
        Reason.LOST_PRECISION: _of_rounding(dtype, failed, departure),
        Reason.UNDERFLOW: _of_underflow(dtype, lost, len(failed) > 1, scale, departure),
    }
    culprit = _culprit(layout, failed, departure)
    found = [
        Diagnosis(c.path, words[c.reason], (TRAINED,), c.ratio, c.cosine, c is culprit)
        for c in failed
    ]
    return tuple(sorted(found, key=lambda d: not d.is_culprit))


def _culprit(layout, failed, departure):
    """The variable to lead with: that lost most, else of the layer where it begins, else the last in forward order."""
    layer = departure.layer if departure is not None else ""
    order = {path: number for number, path in enumerate(layout.paths)}

    def rank(comparison):
        zeros = comparison.zeros if comparison.reason is Reason.UNDERFLOW else 0.0
        return (
            zeros,
            bool(layer) and comparison.path.startswith(f"{layer}/"),
            order.get(comparison.path, -1),
        )

    return max(failed, key=rank)


def _of_loss(dtype, losses, departure):
    native, wide = losses
    words = f"the loss is {_number(native)} in {dtype} and {wide:.4g} in float64: {_where(dtype, departure)}"
    return words + f"{_limits(dtype)} (a mask of -1e9, log(p + 1e-8)?)"


def _of_gradient(dtype, losses, scale, departure):
    native = f" ({native_loss:.4g})" if math.isfinite(native_loss := losses[0]) else ""
    words = f"the gradient is NaN or infinite in {dtype} while the loss is finite{native}"
    if scale != 1:
        return words + (
            f": the fixed loss scale {scale:g} is too large, at 1 it is finite; use keras.optimizers.LossScaleOptimizer"
        )
    return f"{words}, and finite in float64: {_where(dtype, departure)}{_limits(dtype)}"


def _of_underflow(dtype, lost, is_many, scale, departure):
    share = f"{'up to ' if is_many else ''}{lost:.0%} of the gradient"
    if departure is not None and departure.has_vanished and departure.location not in _BACKWARD:
        advice = "scale it up, or compute it in float32" if dtype != "float32" else "scale it up"
        return f"{share} is lost in {dtype}: {_where(dtype, departure)}{_limits(dtype)}; {advice}"
    where = f"; {_where(dtype, departure)[:-2]}" if departure is not None else ""
    if dtype not in ("float16", "bfloat16"):
        return f"{share} underflows to zero in {dtype}: scale the loss up{where}"
    larger = "use loss scaling" if scale == 1 else f"the loss scale {scale:g} is too small"
    return f"{share} underflows to zero in {dtype}: {larger}{where}"


def _of_rounding(dtype, failed, departure):
    most = max(
        (c.relative_difference for c in failed if c.reason is Reason.LOST_PRECISION),
        default=math.nan,
    )
    words = f"in {dtype} the gradient differs by up to {most:.1g} from that in float64, in the check as in train_step: "
    where = _where(dtype, departure)
    return words + (
        where[:-2] if where else "digits are lost (a large number added to a small one?)"
    )


def _where(dtype, departure):
    """Where it begins, with a semicolon behind; empty if that is not known."""
    if departure is None:
        return ""
    what = "the first value that is not finite"
    if departure.has_vanished:
        what = f"zeros where float64 has values of {departure.size:.2g}"
    layer = departure.layer
    return {
        Location.INPUT: f"the inputs already become {what}, once they are cast to {dtype}; ",
        Location.CALL: f"{layer} hands on {what}; ",
        Location.BETWEEN: f"{layer} is given {what}, which no layer has handed on; ",
        Location.LOSS: f"the loss makes {what}, from outputs that are as in float64; ",
        Location.LOSS_SLOPE: f"the gradient of the loss with respect to the outputs already has {what}; ",
        Location.BACKWARD: f"the gradient that {layer} hands down has {what}; ",
        Location.REACHED: f"the gradient that reaches {layer} has {what}; ",
    }[departure.location]


def _limits(dtype):
    largest, smallest = limits(dtype)
    return f"something overflows {largest:.5g} or vanishes below {smallest:.1g}"


def _number(value):
    return "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.4g}"


def scaling_note(dtype, scale):
    """Returns the note about a step that loss scaling leaves out."""
    return (
        f"the gradient is not finite in {dtype} at the loss scale {scale:g}, and finite at 1: loss scaling leaves this "
        "step out and goes on with a smaller scale"
    )


def loss_note(dtype, native, wide, is_same, is_right):
    """Returns the note about two losses that differ by more than rounding.

    Args:
        dtype: Name of the dtype that training computes in.
        native: What `train_step` calls the loss.
        wide: What the check computes.
        is_same: Whether the loss that the check differentiates, evaluated as
            training does, is the native one; None where that is not known.
        is_right: Whether the gradients agree all the same.
    """
    if is_same:
        return f"the loss is {_number(native)} as training computes it in {dtype}, and {wide:.4g} in float64"
    words = f"train_step computes the loss {_number(native)}, the check {wide:.4g}"
    if is_right:
        cause = "a part of the batch or of the loss, a constant beside it, lost digits?"
        return f"{words} in float64; the gradients agree ({cause})"
    return (
        words
        if is_same is None
        else f"{words}: not the same loss (another one in train_step, or compute_loss?)"
    )
