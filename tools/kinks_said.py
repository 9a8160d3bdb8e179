"""Of what a kink is said: run `python -m tools.kinks_said`.

Checks two hundred smooth functions, with right gradients and with gradients that
are wrong by a millionth to a thousandth, and a hundred functions with kinks.
Prints per family how many checks pass, fail and speak of a kink; of the kinked
ones how many are judged rightly at the kink, and what is said there otherwise.
"""

import collections

from tests.known import function as known
from tests.known import kinked, smooth


def family(function):
    """Returns the name of its family."""
    return str(function).rpartition("_")[0]


def verdicts(report):
    """Yields what is counted of a check."""
    yield str(report.verdict)
    if known.says_kink(report):
        yield "kink"


def at_kinks(function, report):
    """Yields what is counted of a check of a function with kinks."""
    yield "right" if known.is_kink_recognized(function, report) else "wrong"
    for c in report.comparisons:
        if c.index is not None and c.index[0] in function.kinked and c.term == "total":
            yield f"{c.verdict} {c.reason}"


def print_counts(title, counts):
    """Prints a line per family, and one for all of them."""
    print(title)
    together = collections.Counter()
    for name, found in counts.items():
        print(f"  {name:20} {_count(found)}")
        together += found
    print(f"  {'all':20} {_count(together)}", flush=True)


def _count(found):
    return ", ".join(f"{what} {number}" for what, number in sorted(found.items()))


def main():
    """Prints the four tables."""
    right, wrong, ends, middle = (collections.defaultdict(collections.Counter) for _ in range(4))
    for number, function in enumerate(smooth.build()):
        right[family(function)].update(verdicts(known.check(function)))
        spoiled = smooth.spoil(function, number)
        wrong[family(function)].update(verdicts(known.check(function, spoiled)))
    print_counts("smooth, right gradient", right)
    print_counts("smooth, gradient wrong by 1e-6 to 1e-3", wrong)
    for function in kinked.build():
        ends[family(function)].update(at_kinks(function, known.check(function)))
    print_counts("kinked, any subgradient: checks, and comparisons at kinks", ends)
    for function in kinked.build(share=0.5):
        middle[family(function)].update(at_kinks(function, known.check(function)))
    print_counts("kinked, the middle of both slopes", middle)


if __name__ == "__main__":
    main()
