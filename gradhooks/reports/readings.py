"""What was measured of the gradient at one place between the layers of a model."""

import dataclasses
from typing import Literal

# Two words are measured to be so; "zero" is a gradient that is nothing and should be, "undecided" a
# measurement that tells nothing.
Word = Literal["right", "wrong", "zero", "undecided", "not measured"]


@dataclasses.dataclass(frozen=True)
class TapReading:
    """The gradient at one tap, in one direction of the tensor there.

    Args:
        layer: Path of the layer.
        call: Which call of the layer it is, from 0.
        is_output: Whether the tap is behind the layer, not before it.
        word: How the gradient is.
        relative_difference: `|a - n| / (|a| + |n|)`; None where it was not measured.
        analytic: The derivative by backpropagation, which is known at every tap.
        numeric: The measured one; None where it was not measured.

    Example:

    >>> TapReading("net/dense", 0, True, "wrong", 0.5, 3.0, 1.0).word
    'wrong'
    """

    layer: str
    call: int
    is_output: bool
    word: Word = "not measured"
    relative_difference: float | None = None
    analytic: float | None = None
    numeric: float | None = None
