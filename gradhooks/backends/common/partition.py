"""Into which groups parameters are divided, so that those of one group share what does not depend on them."""

import numpy as np

# Into how many parts the parameters are divided at most. With G parts of equal work, moving a
# parameter costs (1 + 1/G) / 2 of the whole on average: 0.63 with four. More save little, and every
# part takes time to compile.
_PARTS = 4
# Sharing must save at least this part of the work. It must also pay for more loops within a
# thousand evaluations, a dozen checks: some 30 ms to trace them and 2 ms for each parameter, which
# is so many multiplications an evaluation.
_WORTHWHILE, _WORTH_TRACING, _WORTH_TRACING_EACH = 0.1, 1e5, 6e3


def partition(forward):
    """Divides the parameters into groups of neighbours, so that moving each parameter of a group once takes least work.

    Args:
        forward: A `Forward`.

    Returns:
        The number of the first parameter of each group, and the number of
        parameters; a single group where division would save next to nothing.
    """
    count = len(forward.roots)
    # A few dozen places to cut at are as good as all.
    places = sorted({*np.linspace(0, count, min(count, 48) + 1).round().astype(int).tolist()})
    # best[j]: least work with the parameters before places[j], and the cuts that lead there.
    work = [forward.work(place) for place in places[:-1]]
    best = [(0.0, (0,))] + [(np.inf, ())] * (len(places) - 1)
    alone = count * work[0][count]
    for _ in range(min(count, _PARTS)):
        best = [
            min(
                [best[j]]
                + [
                    (
                        best[i][0] + (places[j] - places[i]) * work[i][places[j]],
                        (*best[i][1], places[j]),
                    )
                    for i in range(j)
                    if best[i][1]
                ],
                key=lambda found: found[0],
            )
            for j in range(len(places))
        ]
    least, bounds = best[-1]
    worth_tracing = _WORTH_TRACING + _WORTH_TRACING_EACH * count
    is_worthwhile = alone - least > max(_WORTHWHILE * alone, worth_tracing * count)
    return bounds if is_worthwhile else (0, count)
