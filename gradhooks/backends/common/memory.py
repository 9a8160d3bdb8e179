"""Memory that the C library keeps after it has been freed."""

import ctypes
import sys

# As float64, 1e6 parameters are 8 MB. A free choice that changes memory and time only: below it,
# what glibc keeps is small beside what the framework itself takes.
TRIM_ABOVE = 1e6


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
