"""What `train_step` does to the gradient, in words: for all variables at once where possible."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import TRAINED, Diagnosis, GradientComparison
from gradhooks.verdicts import causes, diagnosis, roundoff, step_causes
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient, Recorded

# Relative accuracy to which factors and norms are recognized. A free choice: training in half
# precision rounds to 1e-2, and no two factors with a known cause lie this close together.
_ACCURACY = 1e-2
# A gradient at this cosine or above is a multiple of the analytic one. A free choice: an angle of
# 0.8 degrees, more than rounding in float32 leaves.
_PARALLEL = 1.0 - 1e-4
# Entries of a swapped gradient may differ by this fraction of the largest one, for entries near
# zero have no relative accuracy. A free choice: a few roundoffs of float32.
_SWAPPED_ACCURACY = 1e-6
# A ratio is told from this cosine on. A free choice: below it, little of one gradient is in the
# other.
_SIGNAL = 0.3
_CAUSES = {2.0: "applied twice?", 0.5: "halved, a mean over two?"}


def diagnose(
    layout: Layout,
    recorded: OptimizerGradient,
    data_gradient: Vector | None,
    comparisons: Sequence[GradientComparison],
    dtype: str,
    batch_size: int | None,
    replicas: int = 1,
    cause: str = "",
) -> tuple[Diagnosis, ...]:
    """Returns one `Diagnosis` per variable whose optimizer gradient is wrong.

    Args:
        layout: The `Layout`.
        recorded: The `OptimizerGradient`.
        data_gradient: float64, shape (P,). Gradient without regularization;
            None if the model has none.
        comparisons: The comparisons of the optimizer gradient.
        dtype: Name of the dtype that training computes in.
        batch_size: Number of examples; None where there is no one number.
        replicas: Number of replicas whose gradients the optimizer adds up.
        cause: A sentence that explains all of it; empty if there is none.
    """
    failed: dict[int, GradientComparison] = {}
    for c in comparisons:
        if c.verdict is Verdict.FAIL:
            failed[layout.paths.index(c.path)] = c
    if not failed:
        return ()
    values = recorded.values.astype(np.float64, copy=False)
    recorded = dataclasses.replace(recorded, values=values)
    diagnoses: list[Diagnosis] = []
    # A gradient that is not finite agrees with nothing, so NumPy need not warn of it.
    with np.errstate(invalid="ignore", over="ignore"):
        pattern = cause or _find_pattern(
            recorded, data_gradient, failed, dtype, batch_size, replicas
        )
        for variable, c in failed.items():
            sentence = pattern or _describe_variable(
                recorded, data_gradient, variable, failed, dtype
            )
            is_leading = not pattern or variable == max(failed)
            found = Diagnosis(c.path, sentence, (TRAINED,), c.ratio, c.cosine, is_leading)
            diagnoses.append(found)
    return tuple(sorted(diagnoses, key=lambda d: not d.is_leading))


def _find_pattern(
    recorded: OptimizerGradient,
    data_gradient: Vector | None,
    failed: Mapping[int, GradientComparison],
    dtype: str,
    batch_size: int | None,
    replicas: int,
) -> str:
    """A sentence that explains all failed variables at once; empty if there is none."""
    if not any(recorded.is_finite[v] for v in failed):
        return _describe_non_finite(recorded, [*failed], dtype)
    if data_gradient is not None and _agree(recorded, data_gradient, failed, dtype):
        return (
            "train_step drops the regularization: the optimizer receives the gradient of the data "
            "term alone"
        )
    ratios = np.array([c.ratio for c in failed.values() if abs(c.cosine) > _PARALLEL])
    is_each_scaled = len(ratios) == len(failed)
    # A single scaled variable is no pattern, unless there is no other.
    if is_each_scaled and (len(failed) > 1 or len(failed) == len(recorded.layout)):
        if np.allclose(ratios, ratios[0], rtol=_ACCURACY):
            return _describe_common_factor(recorded, failed, ratios, batch_size, replicas)
        return _describe_clipped_norms(recorded, failed)
    return _describe_clipped_values(recorded, failed)


def _describe_variable(
    recorded: OptimizerGradient,
    data_gradient: Vector | None,
    variable: int,
    failed: Mapping[int, GradientComparison],
    dtype: str,
) -> str:
    layout, comparison = recorded.layout, failed[variable]
    values = recorded.values[layout.slice(variable)]
    if not recorded.is_finite[variable]:
        return _describe_non_finite(recorded, [variable], dtype)
    if not recorded.is_connected[variable]:
        return (
            "train_step passes no gradient for this variable to the optimizer: left out, or behind "
            "a stop_gradient?"
        )
    if not values.any():
        return "the optimizer receives zeros for this variable: a stop_gradient in train_step?"
    if data_gradient is not None:
        penalty_gradient = recorded.analytic - data_gradient
        if _agree(recorded, penalty_gradient, [variable], dtype):
            return (
                "the optimizer receives the gradient of the regularization alone: a stop_gradient "
                "in train_step?"
            )
    for other in failed:
        if other != variable and _is_swapped(recorded, values, variable, other):
            return f"swapped: the optimizer receives the gradient of {layout.paths[other]}"
    if abs(comparison.cosine) > _PARALLEL:
        return f"the optimizer receives {comparison.ratio:.6g} times the gradient of this variable"
    if not comparison.analytic_norm:
        return (
            "the optimizer receives a gradient for this variable, which is zero by backpropagation"
        )
    # Beside another direction, or rounding noise, a ratio is the quotient of two chances.
    is_signal = abs(comparison.cosine) >= _SIGNAL
    is_signal = is_signal and comparison.analytic_norm > comparison.rounding
    ratio = comparison.ratio if is_signal else math.nan
    numbers = diagnosis.format_cosine_and_ratio(comparison.cosine, ratio)
    return f"the optimizer receives another gradient{numbers}"


def _describe_non_finite(
    recorded: OptimizerGradient,
    variables: Sequence[int],
    dtype: str,
) -> str:
    """A sentence for variables of which the optimizer receives NaN.

    Empty if float64 gives NaN for some of them and finite numbers for others.
    """
    parts = (recorded.analytic[recorded.layout.slice(v)] for v in variables)
    is_finite = {bool(np.isfinite(part).all()) for part in parts}
    if len(is_finite) > 1:
        return ""
    words = (
        "the optimizer receives NaN or infinite numbers for this variable; backpropagation in "
        "float64 gives"
    )
    if not is_finite.pop():
        return f"{words} NaN as well"
    location = diagnosis.locate_non_finite(recorded.layout, recorded.values)
    return f"{words} finite ones: `train_step` makes them, or {dtype} does, {location}"


def _agree(
    recorded: OptimizerGradient,
    reference: Vector,
    variables: Iterable[int],
    dtype: str,
) -> bool:
    for v in variables:
        part = recorded.layout.slice(v)
        values, expected = recorded.values[part], reference[part]
        size = np.linalg.norm(values) + np.linalg.norm(expected)
        if not np.linalg.norm(values - expected) <= roundoff.tolerance(dtype) * size:
            return False
    return True


def _is_swapped(
    recorded: OptimizerGradient,
    values: Recorded,
    variable: int,
    other: int,
) -> bool:
    """Whether the values recorded for a variable are the gradient of another one of its shape."""
    layout = recorded.layout
    if layout.shapes[other] != layout.shapes[variable]:
        return False
    gradient = recorded.analytic[layout.slice(other)]
    margin = _SWAPPED_ACCURACY * abs(values).max()
    return np.allclose(values, gradient, rtol=_ACCURACY, atol=margin)


def describe_factor(
    ratio: float,
    batch_size: int | None,
    replicas: int,
    norm: float = math.nan,
    scope: str = "every variable",
    ratio_elsewhere: float = math.nan,
) -> str:
    """Returns a sentence about a gradient that is a multiple of the right one.

    Args:
        ratio: The factor.
        batch_size: Number of examples; None where there is no one number.
        replicas: Number of replicas whose gradients the optimizer adds up.
        norm: The norm to which the gradient is scaled; NaN if it is not.
        scope: Which variables it is a multiple for, in words.
        ratio_elsewhere: The factor at another point; NaN if it is not known.
    """
    if math.isfinite(norm):
        return _describe_norm(norm, ratio, ratio_elsewhere)
    known = dict(_CAUSES)
    for factor, words in causes.find_replica_causes(replicas).items():
        usual = known.get(factor, "")
        known[factor] = f"{words} or {usual}" if usual else words
    cause = causes.explain_factor(ratio, known, batch_size, _ACCURACY)
    return f"train_step passes on {ratio:.6g} times the gradient, for {scope}{cause}"


def _describe_norm(norm: float, ratio: float, ratio_elsewhere: float) -> str:
    """A sentence about a gradient that is scaled to a norm; elsewhere it may not be."""
    if ratio >= 1:
        words = f"scaled up to the norm {norm:.4g}"
    elif ratio_elsewhere > 1 + _ACCURACY:
        words = f"scaled to the norm {norm:.4g}"
    elif ratio_elsewhere >= 1 - _ACCURACY:
        words = f"clipped to the norm {norm:.4g}"
    else:
        words = f"clipped to the norm {norm:.4g}, or always scaled to it"
    return f"the gradient is {words}: the optimizer receives {ratio:.4g} times the gradient"


def _describe_common_factor(
    recorded: OptimizerGradient,
    failed: Collection[int],
    ratios: Vector,
    batch_size: int | None,
    replicas: int,
) -> str:
    """A sentence about a factor that all of the wrong variables have in common."""
    ratio, norm = float(np.median(ratios)), float(np.linalg.norm(recorded.values))
    sizes = recorded.norms[0]
    visible = np.flatnonzero(sizes > _SWAPPED_ACCURACY * sizes.max(initial=0.0))
    right = [v for v in visible if v not in failed]
    if right:
        # A norm that is clipped scales them all.
        scope = f"{len(failed)} of {len(recorded.layout)} variables"
        return describe_factor(ratio, batch_size, replicas, scope=scope)
    is_clipped = 0 < ratio < 1 and step_causes.is_round(norm)
    return describe_factor(ratio, batch_size, replicas, norm if is_clipped else math.nan)


def _describe_clipped_norms(recorded: OptimizerGradient, failed: Iterable[int]) -> str:
    parts = (recorded.values[recorded.layout.slice(v)] for v in failed)
    norms = np.array([np.linalg.norm(part) for part in parts])
    if np.allclose(norms, norms[0], rtol=_ACCURACY) and step_causes.is_round(float(norms[0])):
        return f"every variable's gradient is clipped to the norm {norms[0]:.4g}"
    return ""


def _describe_clipped_values(recorded: OptimizerGradient, failed: Iterable[int]) -> str:
    parts = [recorded.layout.slice(v) for v in failed]
    values = np.concatenate([recorded.values[part] for part in parts])
    analytic = np.concatenate([recorded.analytic[part] for part in parts])
    limit = np.max(np.abs(values), initial=0.0)
    expected = np.clip(analytic, -limit, limit)
    distance = np.linalg.norm(values - expected)
    is_clipped = limit > 0 and distance <= _ACCURACY * np.linalg.norm(expected)
    if is_clipped and np.max(np.abs(analytic)) > limit * (1 + _ACCURACY):
        return f"the gradient is clipped by value to +-{limit:.4g}"
    return ""
