"""Which variables a loss depends on through some arrays of its trace, and which around them."""

import numpy as np

from gradhooks.backends.common.passages import Passage


def find_passages(graph, forward, entries, exits, is_around_wanted):
    """Finds the variables that lead to a loss through a part of its trace.

    Args:
        graph: The `GradientProgram` of the trace.
        forward: Its `ForwardEquations`.
        entries: Arrays that go into the part.
        exits: Arrays that come out of it.
        is_around_wanted: Whether ways around the part are looked for.

    Returns:
        A `Passage` for each loss term, a tuple.
    """
    before, behind = [t.val for t in entries], {t.val for t in exits}
    # What goes into a loop is not looked for: all may lead there.
    is_inside = not graph.are_outermost(entries)
    is_behind_inside = not graph.are_outermost(exits)
    enters = forward.dependence_of(before)
    if is_inside:
        enters = np.ones_like(enters)
    closed = frozenset() if is_behind_inside else behind
    passages = []
    for output in forward.outputs:
        is_open = is_behind_inside or bool(forward.find_reaching(output) & behind)
        around = None
        if is_around_wanted:
            left = forward.find_reaching(output, closed)
            around = np.array([root in left for root in forward.roots], bool)
        passages.append(Passage(enters & is_open, around, is_open))
    return tuple(passages)
