"""Where a failed check says that the fault is: python -m tools.localization.

Prints one line for each case of `tests/localization` at each seed: the verdict, the
place that is named and the place of the fault, and the evaluations of the check and of
that of the healthy twin. At the end, how often the right place is named, none, or a
healthy one. `--seeds 5` asks for the seeds 0 to 4, `--case NAME` for cases whose name
begins so (it can be given repeatedly), `--no-twins` leaves the twins out. `--corpora`
takes the mutants of `tests/corpora` instead, without twins.
"""

import argparse
import collections
import sys
import traceback

import tensorflow as tf

from tests.corpora import culprits, mutants
from tests.corpora import judging as corpora
from tests.localization import judging
from tests.localization.cases import CASES


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools.localization", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--no-twins", action="store_true")
    parser.add_argument("--corpora", action="store_true")
    return parser.parse_args()


def row(case, seed, with_twin):
    """Returns what to count, and one line; what must not be has an exclamation mark."""
    outcome = judging.check(case, seed)
    twin = judging.check_twin(case, seed) if with_twin else None
    notes = []
    if str(outcome.verdict) != "FAIL":
        notes.append("! no failure")
    if outcome.word == judging.WRONG:
        notes.append("! a healthy place is named")
    if twin is not None:
        notes += remarks_on_twin(outcome.report, twin)
    found = "-" if outcome.found is None else " ".join(map(str, outcome.found))
    expected = " or ".join(f"{kind} {path}" for kind, path in outcome.expected)
    line = (
        f"{case.name:34} {seed} {outcome.verdict!s:12} {outcome.word:5} {found:32} "
        f"({expected}, call {case.call}) {evaluations(outcome.report, twin)} {'; '.join(notes)}"
    )
    return outcome.word, line


def row_of_mutant(case, seed):
    """Returns what to count, and one line."""
    report, (model, *_) = corpora.check_case_with_model(case, seed)
    word = culprits.judge(case, report, model)
    said = culprits.describe(case, report, model)
    return (
        word,
        f"{case.name:34} {seed} {report.verdict!s:12} {word:5} {said} {evaluations(report, None)}",
    )


def evaluations(report, twin):
    """Returns the evaluations of a check, beside those of the twin's."""
    beside = "" if twin is None else f" / {twin.evaluations}"
    return f"{report.evaluations}{beside} evaluations, {report.seconds:.1f} s"


def remarks_on_twin(report, twin):
    remarks = []
    if str(twin.verdict) != "PASS":
        remarks.append(f"{'! ' if str(twin.verdict) == 'FAIL' else ''}twin {twin.verdict}")
    if judging.found_in(twin) is not None:
        remarks.append("! a place is named in the twin")
    if report.evaluations > 3 * twin.evaluations:
        remarks.append("! more than three times the evaluations")
    return remarks


def main():
    arguments = parse_arguments()
    # Optimizing a small graph takes longer than all that a check does with it.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    cases = [*mutants.CASES, *mutants.TRAIN_STEPS] if arguments.corpora else CASES
    counts = collections.Counter()
    beginnings = tuple(arguments.case)
    for case in cases:
        if beginnings and not case.name.startswith(beginnings):
            continue
        for seed in range(arguments.seeds):
            try:
                if arguments.corpora:
                    word, line = row_of_mutant(case, seed)
                else:
                    word, line = row(case, seed, not arguments.no_twins)
            except Exception as error:
                traceback.print_exc()
                word, line = "error", f"{case.name:34} {seed} ! {type(error).__name__}: {error}"
            counts[word] += 1
            print(line, flush=True)
    total = counts.total()
    words = (judging.RIGHT, judging.NONE, judging.WRONG, "error")
    print(*(f"{word}: {counts[word]} of {total}" for word in words), sep="\n")
    return bool(counts[judging.WRONG] or counts["error"])


if __name__ == "__main__":
    sys.exit(main())
