"""Layers whose gradient is not the derivative on purpose, and what that excuses."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Excuse:
    """What a layer whose gradient is not the derivative on purpose excuses.

    Args:
        layer: Path of the layer.
        kind: `"blocked"` or `"mismatch"`, as `expect` declares it; `"known"` for an
            approximation of Keras' or of TensorFlow's.
        covered: The kind by (path of a variable, term of the loss), for all whose
            gradient passes through the layer. A gradient that the layer blocks is
            not zero, but differs, where the loss depends on the variable on
            another way as well.
        pattern: The pattern of `expect`; empty for a known approximation.
        sentence: What the approximation is and where it is documented; empty for
            a declaration.

    Example:

    >>> excuse = Excuse("cut", "blocked", {("below/kernel", "total"): "blocked"}, "*cut")
    >>> excuse.covered.get(("above/kernel", "total")) is None
    True
    """

    layer: str
    kind: str
    covered: Mapping[tuple[str, str], str]
    pattern: str = ""
    sentence: str = ""
