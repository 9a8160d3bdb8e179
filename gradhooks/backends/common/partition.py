"""Groups of variables that share the part of the loss which does not depend on them.

To move one parameter, only what depends on its variable must be computed
again. One compiled loop per group of neighbouring variables computes what
depends on the group, and the rest is computed once. More groups save work and
take longer to trace.

Every number here changes what a check costs, and none changes a result.
"""

import dataclasses

import numpy as np

# With G groups of equal work, moving a parameter costs (1 + 1/G) / 2 of the whole on average: 0.63
# for four groups. Eight would save 0.06 more and take twice as long to trace.
MOST_GROUPS = 4
# The bounds of groups are sought among this many evenly spaced places, so that the search takes a
# bounded time. A free choice: with four groups, a finer grid moves a bound by 1 % of the variables.
_MOST_CUTS = 48
# The least share of the work that groups must save. A free choice: less is not worth a longer
# compilation.
_LEAST_SAVING = 0.1


@dataclasses.dataclass(frozen=True)
class TracingCost:
    """What tracing several loops costs, in multiplications per evaluation.

    Tracing must pay for itself within 1000 evaluations, a dozen checks. It was
    measured once, by no command that is kept, at about 30 ms and 2 ms for each
    variable. At 3e9 multiplications a second this is 30 ms / 1000 * 3e9 = 1e5
    and 2 ms / 1000 * 3e9 = 6e3.

    Args:
        fixed: For all loops together.
        per_variable: For each variable.
    """

    fixed: float = 1e5
    per_variable: float = 6e3

    def of(self, count):
        """Returns the cost for `count` variables."""
        return self.fixed + self.per_variable * count


DEFAULT_TRACING_COST = TracingCost()


def partition(forward, tracing_cost=DEFAULT_TRACING_COST):
    """Partitions variables into groups of neighbours with the least total work.

    The work counted is that of moving one parameter of each variable once.

    Args:
        forward: The graph that leads to the loss: `forward.roots` lists the
            variables, and `forward.model_work(first)[last]` is the work of
            moving the variables `first <= v < last`, in multiplications.
        tracing_cost: What groups must save to be worthwhile.

    Returns:
        The bounds of the groups: the number of the first variable of each
        group, then the number of variables. `(0, V)`, one group, where several
        would save too little.
    """
    count = len(forward.roots)
    cuts = _place_cuts(count)
    work = [forward.model_work(cut) for cut in cuts[:-1]]
    undivided = count * work[0][count]
    least, bounds = _find_least_work(cuts, work, min(count, MOST_GROUPS))

    saving = undivided - least
    least_saving = _LEAST_SAVING * undivided
    tracing = tracing_cost.of(count) * count
    is_worthwhile = saving > max(least_saving, tracing)
    return bounds if is_worthwhile else (0, count)


def _place_cuts(count):
    """Returns the places where a group may begin or end, in order, 0 and `count` among them."""
    cells = min(count, _MOST_CUTS)
    grid = np.linspace(0, count, cells + 1).round()
    return sorted(set(grid.astype(int).tolist()))


def _find_least_work(cuts, work, most_groups):
    """Finds the best bounds among `cuts` by dynamic programming; returns (work, bounds)."""
    # best[end] is the least work of the variables before cuts[end], with the bounds that reach it.
    # Each round allows one more group.
    best = [(0.0, (0,))] + [(np.inf, ())] * (len(cuts) - 1)
    for _ in range(most_groups):
        best = [_add_group(best, cuts, work, end) for end in range(len(cuts))]
    return best[-1]


def _add_group(best, cuts, work, end):
    """Returns the better of `best[end]` and all ways to let one more group end there."""
    least, least_bounds = best[end]
    last = cuts[end]
    for start in range(end):
        before, bounds = best[start]
        if not bounds:
            continue  # cannot be reached with so few groups
        variables = last - cuts[start]
        total = before + variables * work[start][last]
        if total < least:
            least = total
            least_bounds = (*bounds, last)
    return least, least_bounds
