"""What a check needs of the memory, and what the C library keeps after it has been freed."""

import ctypes
import dataclasses
import sys

# As float64, 1e6 parameters are 8 MB. A free choice that changes memory and time only: below it,
# what glibc keeps is small beside what the framework itself takes.
TRIM_ABOVE = 1e6


@dataclasses.dataclass(frozen=True)
class Needs:
    """What evaluations around a point need, estimated from above, in bytes of float64.

    Args:
        parameters: Size of all parameters.
        largest: Size of the largest variable.
        activations: Size of all that one forward pass computes.
        terms: How many terms of the loss are differentiated.
    """

    parameters: int
    largest: int
    activations: int
    terms: int

    @property
    def lasting(self):
        """What is held meanwhile: the point, the same by variables, and the gradients."""
        return (2 + self.terms) * self.parameters

    @property
    def usual(self):
        """With two evaluations at once, each with parameters of its own."""
        return self.lasting + 2 * (self.parameters + self.activations)

    @property
    def least(self):
        """With one at a time, of which one variable is copied; or the gradient, if that is more.

        Backpropagation keeps the activations, and computes as many gradients of them.
        """
        return self.lasting + max(self.largest + self.activations, 2 * self.activations)


def trim_memory(size, trim_above=TRIM_ABOVE):
    """Returns free memory to the system by glibc's `malloc_trim`, if a model is large.

    Args:
        size: Number of parameters.
        trim_above: The number of parameters above which memory is returned.
    """
    if size <= trim_above or sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)
