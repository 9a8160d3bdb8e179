"""Usual causes of a gradient that is a constant times the right one."""

import math
from collections.abc import Mapping

# A loss scale is at least 2**2: the factors 2 and 1/2 have likelier causes. Exponents are rounded
# to whole numbers, so any limit between 1 and 2 is the same.
_SMALLEST_EXPONENT = 1.5


def explain_factor(
    ratio: float,
    causes: Mapping[float, str],
    batch_size: int | None,
    accuracy: float,
) -> str:
    """Returns `": cause, cause"` for a factor that something usual explains, else an empty text.

    Args:
        ratio: The factor, its sign included.
        causes: Causes by factor above 0. They come before those that are always
            considered: the size of the batch and powers of two.
        batch_size: Number of examples; None if there is no one number.
        accuracy: Relative accuracy to which the factor is known.

    Example:

    >>> explain_factor(-0.125, {}, 8, 1e-3)
    ': the sign is reversed, 1/8, one over the batch: a mean where a sum belongs'
    """
    size = abs(ratio)
    known = {**_causes_in_batch(batch_size), **causes}
    cause = next(
        (text for factor, text in known.items() if math.isclose(size, factor, rel_tol=accuracy)),
        "",
    )
    words: list[str] = []
    if ratio < 0:
        words.append("the sign is reversed")
    if cause:
        words.append(cause)
    else:
        words += _explain_power_of_two(size, accuracy)
    return ": " + ", ".join(words) if words else ""


def find_replica_causes(replicas: int) -> dict[float, str]:
    """Returns what is left of a gradient when replicas do not divide as they should, by factor.

    Args:
        replicas: Number of replicas whose gradients the optimizer adds up.
    """
    if replicas < 2:
        return {}
    number = f"the number of replicas ({replicas})"
    return {
        float(replicas): f"a mean per replica that is not divided by {number}?",
        1.0 / replicas: f"divided twice by {number}?",
    }


def _causes_in_batch(batch_size: int | None) -> dict[float, str]:
    """Factors that are left when a sum over the batch is confused with a mean."""
    if not batch_size or batch_size <= 2:
        return {}
    return {
        1.0 / batch_size: f"1/{batch_size}, one over the batch: a mean where a sum belongs",
        float(batch_size): f"{batch_size}, the size of the batch: a sum where a mean belongs",
    }


def _explain_power_of_two(size: float, accuracy: float) -> list[str]:
    if size == 0:
        return []
    exponent = math.log2(size)
    nearest = 2.0 ** round(exponent)
    if abs(exponent) <= _SMALLEST_EXPONENT or not math.isclose(size, nearest, rel_tol=accuracy):
        return []
    scaling = "a loss scale that was not removed, or removed twice?"
    return [f"2**{round(exponent)}, a power of two: {scaling}"]
