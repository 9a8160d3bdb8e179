"""Times, as medians within one run."""

import time

import numpy as np

REPEATS = 5
# Shortest time that is measured, in seconds.
_LEAST = 0.02


def seconds(function, repeats=REPEATS):
    """Median over repeats of what one call takes.

    Short calls are repeated until the clock sees them.
    """
    calls = _calls(function)
    return float(np.median([_taken(function, calls) for _ in range(repeats)]))


def ratio(function, unit, repeats=REPEATS):
    """Median over repeats of what one call takes in units of another, timed one right after the
    other.

    Machines have faster and slower minutes. Neighbours share them, where two
    medians of what was timed minutes apart may not.
    """
    calls, units = _calls(function), _calls(unit)
    return float(np.median([_taken(function, calls) / _taken(unit, units) for _ in range(repeats)]))


def _calls(function):
    """How many calls the clock sees."""
    function()
    return max(1, int(_LEAST / max(_taken(function, 1), 1e-9)))


def _taken(function, calls):
    """Seconds per call."""
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - started) / calls


def once(function):
    """(seconds, result) of one call."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result
