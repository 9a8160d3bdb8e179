"""Times, as medians within one run."""

import time

import numpy as np

REPEATS = 5


def seconds(function, repeats=REPEATS, least=0.02):
    """Median over repeats of what one call takes; short calls are repeated until the clock sees them."""
    function()
    started = time.perf_counter()
    function()
    calls = max(1, int(least / max(time.perf_counter() - started, 1e-9)))
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(calls):
            function()
        taken.append((time.perf_counter() - started) / calls)
    return float(np.median(taken))


def once(function):
    """(seconds, result) of one call."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result
