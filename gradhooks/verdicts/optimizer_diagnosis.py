"""What `train_step` does to the gradient, in words: one look at all variables together."""

import dataclasses
import math

import numpy as np

from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import TRAINED, Diagnosis
from gradhooks.verdicts import diagnosis
from gradhooks.verdicts.optimizer_gradient import tolerance

_CLOSE = 1e-2


def diagnose(
    layout, received, data_gradient, comparisons, dtype, batch_size, has_noise, replicas=1
):
    """Returns one `Diagnosis` per variable whose trained gradient is wrong.

    Args:
        layout: The `Layout`.
        received: `training.Received`.
        data_gradient: float64, shape (P,). Gradient without regularization;
            None if the model has none.
        comparisons: The comparisons of the term `"trained"`.
        dtype: Name of the dtype that training computes in.
        batch_size: Number of examples; None where there is no one number.
        has_noise: Whether random layers are active.
        replicas: Number of replicas whose gradients the optimizer adds up.
    """
    failed = {
        layout.paths.index(c.path): c
        for c in comparisons
        if c.term == TRAINED and c.verdict is Verdict.FAIL
    }
    if not failed:
        return ()
    received = dataclasses.replace(
        received, trained=received.trained.astype(np.float64, copy=False)
    )
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # a gradient that is not finite agrees with nothing
        pattern = _pattern(layout, received, data_gradient, failed, dtype, batch_size, replicas)
        sentences = [
            pattern or _of_variable(layout, received, data_gradient, v, failed, dtype, has_noise)
            for v in failed
        ]
    found = []
    for (variable, comparison), sentence in zip(failed.items(), sentences, strict=True):
        is_culprit = not pattern or variable == max(failed)
        found.append(
            Diagnosis(
                comparison.path,
                sentence,
                (TRAINED,),
                comparison.ratio,
                comparison.cosine,
                is_culprit,
            )
        )
    return tuple(sorted(found, key=lambda d: not d.is_culprit))


def _pattern(layout, received, data_gradient, failed, dtype, batch_size, replicas):
    """A sentence that explains all failed variables at once; empty if there is none."""
    if not any(received.finite[v] for v in failed):
        return _not_finite(layout, received, [*failed], dtype)
    if data_gradient is not None and _agree(layout, received.trained, data_gradient, failed, dtype):
        return "train_step drops the regularization: the optimizer receives the gradient of the data term alone"
    scales = np.array([c.ratio for c in failed.values() if abs(c.cosine) > 1 - _CLOSE])
    if len(scales) == len(failed) > 1 or (len(scales) == len(failed) == len(layout)):
        if np.allclose(scales, scales[0], rtol=_CLOSE):
            return _constant(float(np.median(scales)), batch_size, replicas, received)
        return _clipped_norms(layout, received, failed)
    return _clipped_values(layout, received, failed)


def _not_finite(layout, received, variables, dtype):
    """A sentence for some variables of which the optimizer receives NaN; empty where float64 has it for some."""
    is_finite = {bool(np.isfinite(received.analytic[layout.slice(v)]).all()) for v in variables}
    if len(is_finite) > 1:
        return ""
    words = "the optimizer receives NaN or infinite numbers for this variable; backpropagation in float64 gives"
    if not is_finite.pop():
        return f"{words} NaN as well"
    place = diagnosis.where_not_finite(layout, received.trained)
    return f"{words} finite ones: `train_step` makes them, or {dtype} does, {place}"


def _agree(layout, trained, reference, failed, dtype):
    return all(
        np.linalg.norm(trained[p] - reference[p])
        <= tolerance(dtype) * (np.linalg.norm(trained[p]) + np.linalg.norm(reference[p]))
        for p in map(layout.slice, failed)
    )


def _constant(scale, batch_size, replicas, received):
    norm = float(np.linalg.norm(received.trained))
    if 0 < scale < 1 and _is_round(norm):
        return f"the gradient is clipped to the norm {norm:.4g}: the optimizer receives {scale:.4g} times the gradient"
    causes = {2.0: "applied twice?", 0.5: "halved, a mean over two?", -1.0: "the sign is reversed"}
    if batch_size and batch_size > 2:
        causes[1 / batch_size] = "one over the batch: a mean where a sum belongs"
        causes[float(batch_size)] = "the size of the batch: a sum where a mean belongs"
    if replicas > 1:
        causes[float(replicas)] = (
            f"a mean per replica that is not divided by the number of replicas ({replicas})?"
        )
        causes[1 / replicas] = f"divided twice by the number of replicas ({replicas})?"
    words = next((w for f, w in causes.items() if math.isclose(scale, f, rel_tol=_CLOSE)), "")
    power = math.log2(abs(scale)) if scale else 0.0
    if (
        not words
        and abs(power) > 1.5
        and math.isclose(abs(scale), 2.0 ** round(power), rel_tol=_CLOSE)
    ):
        words = f"2**{round(power)}: a loss scale that was not removed, or removed twice?"
    return f"train_step hands on {scale:.6g} times the gradient, for every variable" + (
        f": {words}" if words else ""
    )


def _clipped_norms(layout, received, failed):
    norms = np.array([np.linalg.norm(received.trained[layout.slice(v)]) for v in failed])
    if np.allclose(norms, norms[0], rtol=_CLOSE) and _is_round(float(norms[0])):
        return f"every variable's gradient is clipped to the norm {norms[0]:.4g}"
    return ""


def _clipped_values(layout, received, failed):
    trained = np.concatenate([received.trained[layout.slice(v)] for v in failed])
    analytic = np.concatenate([received.analytic[layout.slice(v)] for v in failed])
    limit = np.max(np.abs(trained), initial=0.0)
    expected = np.clip(analytic, -limit, limit)
    is_clip = limit > 0 and np.linalg.norm(trained - expected) <= _CLOSE * np.linalg.norm(expected)
    if is_clip and np.max(np.abs(analytic)) > limit * (1 + _CLOSE):
        return f"the gradient is clipped by value to +-{limit:.4g}"
    return ""


def _is_round(number):
    """Whether a number has at most two digits that are not zero."""
    return number > 0 and math.isclose(number, float(f"{number:.1e}"), rel_tol=1e-3)


def _of_variable(layout, received, data_gradient, variable, failed, dtype, has_noise):
    trained, comparison = received.trained[layout.slice(variable)], failed[variable]
    if not received.finite[variable]:
        return _not_finite(layout, received, [variable], dtype)
    if not received.reached[variable]:
        return "train_step hands no gradient for this variable to the optimizer: left out, or behind a stop_gradient?"
    if not trained.any():
        return "the optimizer receives zeros for this variable: a stop_gradient in train_step?"
    if data_gradient is not None and _agree(
        layout, received.trained, received.analytic - data_gradient, [variable], dtype
    ):
        return "the optimizer receives the gradient of the regularization alone: a stop_gradient in train_step?"
    for other in failed:
        same_shape = other != variable and layout.shapes[other] == layout.shapes[variable]
        if same_shape and np.allclose(
            trained,
            received.analytic[layout.slice(other)],
            rtol=_CLOSE,
            atol=1e-6 * abs(trained).max(),
        ):
            return f"swapped: the optimizer receives the gradient of {layout.paths[other]}"
    if abs(comparison.cosine) > 1 - 1e-4:
        return f"the optimizer receives {comparison.ratio:.6g} times the gradient of this variable"
    if not comparison.analytic_norm:
        return "the optimizer receives a gradient for this variable, of which backpropagation says that it is zero"
    words = f"the optimizer receives another gradient{diagnosis.in_numbers(comparison.cosine, comparison.ratio)}"
    if has_noise:
        words += "; a recomputation (keras.remat) that draws another mask than the forward pass?"
    return words
