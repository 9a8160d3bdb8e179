"""Checks cases of the corpora as if every evaluation of their loss and gradient jittered."""

import dataclasses
from unittest import mock

import numpy as np

from gradhooks import Reason, Verdict
from gradhooks.model import oracle as model_oracle
from tests.corpora import judging

# Relative jitter that must hide nothing, and jitter that leaves nothing to see in float64.
SMALL = (1e-16, 1e-14, 1e-12)
LARGE = 1e-6
# A factor of 1.0001 where only small steps miss the kinks: at this level the error bars of those
# steps are as wide as the error.
HIDDEN = {"off_by_1e_4_among_kinks": 1e-12}


class JitteringOracle:
    """An oracle whose every number is multiplied by `1 + relative * N(0, 1)`.

    Every loss term jitters by itself, and every entry of every gradient.

    Args:
        oracle: The `Oracle` to which everything else is left.
        relative: Size of the jitter.
        seed: Seed of the jitter.
    """

    def __init__(self, oracle, relative, seed=0):
        self._oracle, self._relative = oracle, relative
        self._rng = np.random.default_rng(seed)
        self.gradient_noise = None

    def losses(self, point, probes, pairs):
        return self._jitter(self._oracle.losses(point, probes, pairs))

    def gradients(self, point):
        found = self._oracle.gradients(point)
        terms = {name: self._jitter(gradient) for name, gradient in found.terms.items()}
        return dataclasses.replace(found, terms=terms)

    def __getattr__(self, name):
        return getattr(self._oracle, name)

    def _jitter(self, values):
        return values * (1 + self._relative * self._rng.normal(size=np.shape(values)))


def check_at_levels(case, seed=0, levels=(*SMALL, LARGE)):
    """Returns a report at each level of jitter, and one without any at `0.0`.

    The model is compiled once.
    """
    reports = {}
    with judging.compiled_once(), judging.verdicts_alone():
        make = model_oracle.ModelOracle
        for relative in (0.0, *levels):

            def make_jittering(*arguments, relative=relative, **options):
                return JitteringOracle(make(*arguments, **options), relative, seed)

            with mock.patch.object(model_oracle, "ModelOracle", make_jittering):
                reports[relative] = judging.check_case(case, seed)
    return reports


def find_wrong(case, reports):
    """Returns a sentence for each level of jitter at which a report is not as it must be.

    Small jitter changes no verdict: what failed fails, what passed passes, and
    nothing else fails. Large jitter is not deterministic where gradients are
    compared in float64, and fails nothing that is right in any precision.
    """
    is_mutant, without = case.culprit is not None, reports[0.0]
    wrong = []
    for relative, report in reports.items():
        verdict, expected = report.verdict, None
        if relative == LARGE:
            if without.threshold < relative and np.isfinite(without.loss["total"]):
                expected = Verdict.INCONCLUSIVE
                if report.reason is not Reason.NOT_DETERMINISTIC:
                    wrong.append(f"jitter {relative:g}: {report.reason.name}\n{report}")
        elif is_mutant:
            expected = None if HIDDEN.get(case.name) == relative else Verdict.FAIL
        elif without.verdict is Verdict.PASS:
            expected = Verdict.PASS
        is_accused = verdict is Verdict.FAIL and not is_mutant
        if is_accused or (expected is not None and verdict is not expected):
            wrong.append(f"jitter {relative:g}: {verdict} instead of {expected}\n{report}")
    return wrong
