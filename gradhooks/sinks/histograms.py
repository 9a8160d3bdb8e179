"""Gradients for people to look at: the norm of each variable's gradient, and a histogram of its entries.

A large model has more variables than anybody looks at. Then a fixed selection
is shown, evenly spaced from the first variable to the last, so that a gradient
that vanishes with depth is seen and every curve goes on from check to check.
"""

import dataclasses

import numpy as np
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.util import tensor_util

from gradhooks.numerics.layout import Layout
from gradhooks.reports.text import printable

MOST_NORMS = 100
MOST_HISTOGRAMS = 30
BUCKETS = 30
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

    def of(self, variable):
        """Returns the part of the variable with this number: float64, shape (K,)."""
        return self.vector[self.layout.slice(variable)].astype(np.float64, copy=False)


def variables_to_show(count, most):
    """Returns which of `count` variables are shown: at most `most`, evenly spaced, first and last among them.

    Example:

    >>> shown(3, 5), shown(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= most:
        return list(range(count))
    return sorted({int(v) for v in np.linspace(0, count - 1, most).round()})


def norms(gradients):
    """Returns Euclidean norms by path; norms that are not finite as a float32, as scalars are stored, are left out.

    Example:

    >>> layout = Layout(("dense/kernel", "dense/bias"), ((2,), (1,)))
    >>> norms(Gradients(layout, np.array([3.0, 4.0, 2.0])))
    {'dense/kernel': 5.0, 'dense/bias': 2.0}
    """
    layout = gradients.layout
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = {
            v: float(np.linalg.norm(gradients.of(v)))
            for v in variables_to_show(len(layout), MOST_NORMS)
        }
    return {layout.paths[v]: size for v, size in sizes.items() if size <= _LARGEST}


def entries(gradients):
    """Returns the finite entries by path, float64 of shape (K,); variables without any are left out."""
    layout = gradients.layout
    parts = {v: gradients.of(v) for v in variables_to_show(len(layout), MOST_HISTOGRAMS)}
    finite = {layout.paths[v]: part[np.isfinite(part)] for v, part in parts.items()}
    return {path: part for path, part in finite.items() if len(part)}


def omission_note(gradients, with_histograms):
    """Returns one sentence about what is not shown; empty if everything is."""
    layout = gradients.layout
    count, infinite = len(layout), int(np.sum(~np.isfinite(gradients.vector)))
    limits = {"norms": MOST_NORMS} | ({"histograms": MOST_HISTOGRAMS} if with_histograms else {})
    parts = [
        f"{what} of {most} of {count} variables" for what, most in limits.items() if count > most
    ]
    said = (
        [f"gradients: {' and '.join(parts)} are shown, evenly spaced from first to last"]
        if parts
        else []
    )
    return "; ".join(
        said + ([f"gradients: {infinite} entries are not finite and not shown"] if infinite else [])
    )


def buckets(values):
    """Returns a histogram: float64, shape (30, 3), left edge, right edge and count of each bucket.

    TensorBoard's own helper needs 30 bytes an entry for this.

    Args:
        values: Finite, float64, shape (K,), K > 0.

    Example:

    >>> buckets(np.array([0.0, 1.0, 1.0]))[[0, -1]].round(2).tolist()
    [[0.0, 0.03, 1.0], [0.97, 1.0, 2.0]]
    """
    low, high = float(np.min(values)), float(np.max(values))
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, BUCKETS + 1)
    if not np.isfinite(edges).all() or not (edges[1:] > edges[:-1]).all():
        # One value as far as float64 can tell, or a range too wide to divide: everything in the
        # last bucket.
        counts = np.append(np.zeros(BUCKETS - 1), len(values))
        return np.stack([np.full(BUCKETS, low), np.full(BUCKETS, high), counts], axis=1)
    counts, _ = np.histogram(values, edges)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def summary(gradients, name, with_histograms):
    """Returns norms, and histograms if asked for, as one `Summary` protobuf; `name` prefixes the tags."""
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
