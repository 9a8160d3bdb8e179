"""Where the time of a check goes: run `python -m tools.profile [network ...] [--checks N]`.

For each network, in one process: the first training step and the first verdict, then
steady checks, each beside training steps of the same minute, between which the model is
trained on. The table has the seconds of each stage without those inside of it, the loss
evaluations that it makes, and the whole in training steps.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import statistics
import time
from unittest import mock

import keras

from gradhooks import check as checks
from gradhooks import validation
from gradhooks.checking import (
    baseline,
    blocked,
    known_noise,
    localize,
    optimizer,
    pinpoint,
    pooling,
    probes,
    run,
)
from gradhooks.model.oracle import ModelOracle
from tools.peers import networks

# Stages by name: who does it.
STAGES = {
    "trace": (checks.Checker, "_trace_if_changed"),
    "gradient": (ModelOracle, "gradients"),
    "noise": (baseline, "estimate_baseline"),
    "noise, known": (known_noise, "confirm"),
    "pools": (pooling, "measure_pools"),
    "parameters": (probes, "_measure_singly"),
    "directions": (probes, "measure_directions"),
    "undecided": (probes, "measure_undecided"),
    "blocked": (blocked, "compare_blocked"),
    "optimizer": (optimizer, "compare"),
    "last wrong": (localize, "find_last_wrong_variable"),
    "culprit": (pinpoint, "find_culprit"),
    "the rest": (run, "check"),
}


@dataclasses.dataclass
class Stage:
    """What one stage has taken.

    Attributes:
        seconds: Time, without the stages inside of it.
        evaluations: Losses evaluated, likewise.
    """

    seconds: float = 0.0
    evaluations: int = 0


class Profile:
    """Times the stages of checks while `watching()` is open.

    Attributes:
        stages: The `Stage`s by name.
    """

    def __init__(self):
        self.stages = collections.defaultdict(Stage)
        self._open = []  # what is inside of each open stage: [seconds, evaluations]
        self._evaluations = 0

    @contextlib.contextmanager
    def watching(self):
        """While open, every stage is timed."""
        with contextlib.ExitStack() as stack:
            losses = ModelOracle.losses

            @functools.wraps(losses)
            def count(oracle, point, directions, pairs):
                self._evaluations += len(pairs)
                return losses(oracle, point, directions, pairs)

            stack.enter_context(mock.patch.object(ModelOracle, "losses", count))
            for name, (owner, attribute) in STAGES.items():
                timed = self._time(name, getattr(owner, attribute))
                stack.enter_context(mock.patch.object(owner, attribute, timed))
            yield

    def _time(self, name, function):
        @functools.wraps(function)
        def timed(*arguments, **options):
            self._open.append([0.0, 0])
            started, before = time.perf_counter(), self._evaluations
            try:
                return function(*arguments, **options)
            finally:
                seconds = time.perf_counter() - started
                evaluations = self._evaluations - before
                inside = self._open.pop()
                self.stages[name].seconds += seconds - inside[0]
                self.stages[name].evaluations += evaluations - inside[1]
                if self._open:
                    self._open[-1][0] += seconds
                    self._open[-1][1] += evaluations

        return timed


def profile(name, count):
    """Prints where the first check of a network and `count` further ones spend their time."""
    keras.utils.set_random_seed(0)
    model, x, y = networks.EVERY[name]()
    options = validation.Options(batch_size=len(x))
    checker = checks.Checker(options, (x, y, None, None), "profile")
    checker.take_batch()

    def seconds(function):
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    def train():
        return model.train_on_batch(x, y)

    first_step = seconds(train)
    first, steady = Profile(), Profile()
    with first.watching():
        first_check = seconds(lambda: checker.check(model, 0))
    # The second check compiles what the first did not need.
    checker.check(model, 1)
    times, ratios = [], []
    for step in range(2, 2 + count):
        steps = [seconds(train) for _ in range(3)]
        with steady.watching():
            taken = seconds(functools.partial(checker.check, model, step))
        steps += [seconds(train) for _ in range(3)]
        times.append(taken)
        ratios.append(taken / statistics.median(steps))

    limit = 3 * first_step + 2
    print(f"\n{name}: {model.count_params()} parameters")
    print(
        f"first step {first_step:.2f} s; first verdict {first_check:.2f} s, "
        f"{first_check / first_step:.1f} first steps (3 and 2 s are {limit:.2f} s)"
    )
    print(
        f"steady check {1e3 * statistics.median(times):.0f} ms, "
        f"{statistics.median(ratios):.1f} training steps"
    )
    print(f"{'stage':14}{'first, s':>10}{'losses':>8}{'steady, ms':>12}{'losses':>8}")
    for stage in STAGES:
        one, mean = first.stages[stage], steady.stages[stage]
        if one.seconds or mean.seconds:
            print(
                f"{stage:14}{one.seconds:10.2f}{one.evaluations:8}"
                f"{1e3 * mean.seconds / count:12.1f}{mean.evaluations / count:8.1f}"
            )


def main():
    """Profiles the networks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.profile", description=__doc__)
    parser.add_argument("network", nargs="*", choices=[*networks.EVERY, []])
    parser.add_argument("--checks", type=int, default=9, help="steady checks, 9 by default")
    arguments = parser.parse_args()
    for name in arguments.network or networks.EVERY:
        profile(name, arguments.checks)


if __name__ == "__main__":
    main()
