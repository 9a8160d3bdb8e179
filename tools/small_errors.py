"""How small an error of a gradient is found: run `python -m tools.small_errors [KIND ...]`.

Checks ten kinds of networks at ten seeds, with gradients that are right and with
gradients that are too large everywhere by a tiny share. Prints per kind and error

* how many of ten checks pass, fail, and do neither because of a kink,
* the share of derivatives that fail, and the share of which a kink is said.
"""

import argparse

from gradhooks import Verdict
from tests import small_errors

HEADINGS = ("error", "pass", "fail", "kink", "fail each", "kink each")


def row(name, excess, found):
    """Returns one line of the table."""
    verdicts = [one.verdict for one in found]
    compared = sum(one.compared for one in found)
    failed = sum(one.failed for one in found) / compared
    kinks = sum(one.kinks for one in found) / compared
    return (
        f"{name:20} {excess:+9.1e} {verdicts.count(Verdict.PASS):9} "
        f"{verdicts.count(Verdict.FAIL):9} {sum(one.is_called_a_kink for one in found):9} "
        f"{failed:9.1%} {kinks:9.1%}"
    )


def main():
    """Prints the table."""
    by_name = {kind.name: kind for kind in small_errors.KINDS}
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(by_name)}")
    chosen = parser.parse_args().kinds or by_name
    print(f"{'':20} {' '.join(f'{heading:>9}' for heading in HEADINGS)}")
    together = {}
    for name in chosen:
        for excess, found in small_errors.outcomes(by_name[name]).items():
            print(row(name, excess, found), flush=True)
            together.setdefault(excess, []).extend(found)
    for excess, found in together.items():
        print(row("all", excess, found))


if __name__ == "__main__":
    main()
