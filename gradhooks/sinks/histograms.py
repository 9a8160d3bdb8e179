"""Gradients in TensorBoard: a norm and a histogram of the entries for each variable.

Of a model with many variables a fixed selection is shown, evenly spaced from the
first to the last: it shows a gradient that vanishes with depth, and every curve
continues from check to check.
"""

import dataclasses

import numpy as np
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.util import tensor_util

from gradhooks.numerics.layout import Layout
from gradhooks.reports.text import printable

# Free choices: as many curves and histograms as a dashboard can show, and TensorBoard's own default
# number of buckets.
MOST_NORMS = 100
MOST_HISTOGRAMS = 30
BUCKETS = 30
# Scalars are stored as float32.
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class GradientSnapshot:
    """One gradient to show beside a report.

    Args:
        layout: The `Layout` of the variables.
        vector: float32 or float64, shape (P,). What the optimizer received,
            unscaled.
    """

    layout: Layout
    vector: np.ndarray

    def of(self, variable: int) -> np.ndarray:
        """Returns the part of the variable with this number: float64, shape (K,)."""
        return self.vector[self.layout.slice(variable)].astype(np.float64, copy=False)


def variables_to_show(count: int, most: int) -> list[int]:
    """Returns which of `count` variables are shown: evenly spaced, the first and last included.

    Args:
        count: Number of variables.
        most: Largest number of variables to show.

    Example:

    >>> variables_to_show(3, 5), variables_to_show(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= most:
        return list(range(count))
    return sorted({int(v) for v in np.linspace(0, count - 1, most).round()})


def norms(gradients: GradientSnapshot) -> dict[str, float]:
    """Returns Euclidean norms by path, without those that are not finite as a float32.

    Example:

    >>> layout = Layout(("dense/kernel", "dense/bias"), ((2,), (1,)))
    >>> norms(GradientSnapshot(layout, np.array([3.0, 4.0, 2.0])))
    {'dense/kernel': 5.0, 'dense/bias': 2.0}
    """
    layout = gradients.layout
    with np.errstate(over="ignore", invalid="ignore"):
        found = {}
        for v in variables_to_show(len(layout), MOST_NORMS):
            norm = float(np.linalg.norm(gradients.of(v)))
            if norm <= _LARGEST:
                found[layout.paths[v]] = norm
    return found


def entries(gradients: GradientSnapshot) -> dict[str, np.ndarray]:
    """Returns the finite entries by path, float64 of shape (K,), without variables of none."""
    layout, found = gradients.layout, {}
    for v in variables_to_show(len(layout), MOST_HISTOGRAMS):
        part = gradients.of(v)
        finite = part[np.isfinite(part)]
        if len(finite):
            found[layout.paths[v]] = finite
    return found


def omission_note(gradients: GradientSnapshot, with_histograms: bool) -> str:
    """Returns one sentence about what is not shown; empty if everything is."""
    layout = gradients.layout
    count = len(layout)
    infinite = int(np.sum(~np.isfinite(gradients.vector)))
    shown = []
    remarks = []
    if count > MOST_NORMS:
        shown.append(f"norms of {MOST_NORMS} of {count} variables")
    if with_histograms and count > MOST_HISTOGRAMS:
        shown.append(f"histograms of {MOST_HISTOGRAMS} of {count} variables")
    if shown:
        remarks.append(
            f"gradients: {' and '.join(shown)} are shown, evenly spaced from first to last"
        )
    if infinite:
        remarks.append(f"gradients: {infinite} entries are not finite and not shown")
    return "; ".join(remarks)


def buckets(values: np.ndarray) -> np.ndarray:
    """Returns a histogram: float64, shape (30, 3), left edge, right edge and count of each bucket.

    TensorBoard's own helper needs 30 bytes an entry for this.

    Args:
        values: Finite, float64, shape (K,), K > 0.

    Example:

    >>> buckets(np.array([0.0, 1.0, 1.0]))[[0, -1]].round(2).tolist()
    [[0.0, 0.03, 1.0], [0.97, 1.0, 2.0]]
    """
    low = float(np.min(values))
    high = float(np.max(values))
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, BUCKETS + 1)
    if not np.isfinite(edges).all() or not (edges[1:] > edges[:-1]).all():
        # Values equal in float64, or a range too wide to divide: one bucket holds all of them.
        counts = np.append(np.zeros(BUCKETS - 1), len(values))
        left = np.full(BUCKETS, low)
        right = np.full(BUCKETS, high)
        return np.stack([left, right, counts], axis=1)
    counts, _ = np.histogram(values, edges)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def summary(gradients: GradientSnapshot, name: str, with_histograms: bool) -> summary_pb2.Summary:
    """Returns norms, and histograms if asked for, as one `Summary` protobuf.

    Args:
        gradients: A `GradientSnapshot`.
        name: Prefix of the tags.
        with_histograms: Whether to add histograms.
    """
    result = summary_pb2.Summary()
    for path, norm in norms(gradients).items():
        result.MergeFrom(scalar_pb(f"{name}/gradient_norm/{printable(path)}", norm))
    if with_histograms:
        for path, values in entries(gradients).items():
            tensor = tensor_util.make_tensor_proto(buckets(values), dtype=np.float64)
            kind = metadata.create_summary_metadata(display_name=None, description=None)
            result.value.add(
                tag=f"{name}/gradients/{printable(path)}", metadata=kind, tensor=tensor
            )
    return result
