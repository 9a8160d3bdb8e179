"""Where the time of a check goes: run `python -m tools.profile [network ...] [--checks N]`.

For each network, in one process: the first training step and the first verdict, some
training, then steady checks, each beside training steps of the same minute, between which
the model is trained on. The tables have the seconds of each stage without those inside of
it, the loss evaluations that it makes and what they take.
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

from gradhooks import validation
from gradhooks.checker import Checker
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
    "trace": (Checker, "_trace_if_changed"),
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


# Training steps between the first check and the steady ones.
TRAINING_STEPS = 20


@dataclasses.dataclass
class Stage:
    """What one stage has taken.

    Attributes:
        seconds: Time, without the stages inside of it.
        in_losses: How much of it evaluations of the loss took.
        evaluations: Losses evaluated.
    """

    seconds: float = 0.0
    in_losses: float = 0.0
    evaluations: int = 0


class Profile:
    """Times the stages of checks while `watching()` is open.

    Attributes:
        stages: The `Stage`s by name.
    """

    def __init__(self):
        self.stages = collections.defaultdict(Stage)
        self._open = []  # the names of the open stages, and the seconds inside of each

    @contextlib.contextmanager
    def watching(self):
        """While open, every stage is timed."""
        with contextlib.ExitStack() as stack:
            losses = ModelOracle.losses

            @functools.wraps(losses)
            def count(oracle, point, directions, pairs):
                started = time.perf_counter()
                try:
                    return losses(oracle, point, directions, pairs)
                finally:
                    stage = self.stages[self._open[-1][0]]
                    stage.in_losses += time.perf_counter() - started
                    stage.evaluations += len(pairs)

            stack.enter_context(mock.patch.object(ModelOracle, "losses", count))
            for name, (owner, attribute) in STAGES.items():
                timed = self._time(name, getattr(owner, attribute))
                stack.enter_context(mock.patch.object(owner, attribute, timed))
            yield

    def _time(self, name, function):
        @functools.wraps(function)
        def timed(*arguments, **options):
            self._open.append([name, 0.0])
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds = time.perf_counter() - started
                _, inside = self._open.pop()
                self.stages[name].seconds += seconds - inside
                if self._open:
                    self._open[-1][1] += seconds

        return timed


@dataclasses.dataclass(frozen=True)
class Profiled:
    """What a network's checks took.

    Attributes:
        name: Name of the network.
        parameters: Their number.
        first_step: Seconds of the first training step.
        first_check: Seconds of the first verdict.
        steady: Median of the seconds of steady checks.
        ratio: Median of the same in training steps of the same minute.
        first: The `Profile` of the first check.
        later: The `Profile` of all steady ones.
        count: How many there were.
    """

    name: str
    parameters: int
    first_step: float
    first_check: float
    steady: float
    ratio: float
    first: Profile
    later: Profile
    count: int


def profile(name, count):
    """Returns what the first check of a network and `count` further ones took, as `Profiled`."""
    keras.utils.set_random_seed(0)
    model, x, y = networks.EVERY[name]()
    options = validation.Options(batch_size=len(x))
    checker = Checker(options, (x, y, None, None), "profile")
    checker.take_batch()

    def seconds(function):
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    def train():
        return model.train_on_batch(x, y)

    first_step = seconds(train)
    first, later = Profile(), Profile()
    with first.watching():
        first_check = seconds(lambda: checker.check(model, 0))
    # A loss that falls fast is not the loss of a steady check; and what the first one did not need
    # is compiled now.
    for _ in range(TRAINING_STEPS):
        train()
    for step in (1, 2):
        checker.check(model, step)
    times, ratios = [], []
    for step in range(3, 3 + count):
        steps = [seconds(train) for _ in range(3)]
        with later.watching():
            times.append(seconds(functools.partial(checker.check, model, step)))
        steps += [seconds(train) for _ in range(3)]
        ratios.append(times[-1] / statistics.median(steps))
    return Profiled(
        name,
        model.count_params(),
        first_step,
        first_check,
        statistics.median(times),
        statistics.median(ratios),
        first,
        later,
        count,
    )


def show(profiled):
    """Prints where the time of one network's checks goes."""
    limit = 3 * profiled.first_step + 2
    print(f"\n{profiled.name}: {profiled.parameters} parameters")
    print(
        f"first step {profiled.first_step:.2f} s; first verdict {profiled.first_check:.2f} s, "
        f"{profiled.first_check / profiled.first_step:.1f} first steps "
        f"(3 and 2 s are {limit:.2f} s)"
    )
    print(f"steady check {1e3 * profiled.steady:.0f} ms, {profiled.ratio:.1f} training steps")
    head = ("seconds", "losses", "in losses")
    print(f"{'':14}{'first: ':>8}" + "".join(f"{h:>10}" for h in head), end="")
    print(f"{'steady: ':>10}" + "".join(f"{h:>10}" for h in head))
    for stage in STAGES:
        one, all_ = profiled.first.stages[stage], profiled.later.stages[stage]
        if not one.seconds and not all_.seconds:
            continue
        print(f"{stage:14}{'':8}", end="")
        for taken, count in ((one, 1), (all_, profiled.count)):
            print(f"{taken.seconds / count:10.3f}{taken.evaluations / count:10.1f}", end="")
            print(f"{taken.in_losses / count:10.3f}", end=" " * 10)
        print()


def tabulate(results):
    """Returns a table of all networks in Markdown: each stage as a part of the check."""
    names = [profiled.name for profiled in results]
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]

    def add(label, cell):
        lines.append(f"| {label} | " + " | ".join(cell(p) for p in results) + " |")

    add("parameters", lambda p: f"{p.parameters:,}")
    add("first training step, seconds", lambda p: f"{p.first_step:.2f}")
    add("first verdict, seconds", lambda p: f"{p.first_check:.2f}")
    add("steady check, seconds", lambda p: f"{p.steady:.3f}")
    add("steady check, training steps", lambda p: f"{p.ratio:.1f}")
    for title, of in (("first", "first"), ("steady", "later")):
        for stage in STAGES:
            parts = []
            for profiled in results:
                stages = getattr(profiled, of).stages
                whole = sum(s.seconds for s in stages.values())
                parts.append(stages[stage].seconds / whole if whole else 0.0)
            if max(parts) >= 0.01:
                cells = iter(f"{100 * part:.0f} %" for part in parts)
                add(f"{title}: {stage}", lambda _, cells=cells: next(cells))
        add(
            f"{title}: losses evaluated",
            lambda p, of=of: f"{_mean(p, of, 'evaluations'):.0f}",
        )
        add(
            f"{title}: all evaluations of losses",
            lambda p, of=of: f"{100 * _mean(p, of, 'in_losses') / _mean(p, of, 'seconds'):.0f} %",
        )
    return "\n".join(lines)


def _mean(profiled, of, attribute):
    """Returns the sum over the stages of one check."""
    stages = getattr(profiled, of).stages.values()
    count = 1 if of == "first" else profiled.count
    return sum(getattr(stage, attribute) for stage in stages) / count


def main():
    """Profiles the networks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.profile", description=__doc__)
    parser.add_argument("network", nargs="*", choices=[*networks.EVERY, []])
    parser.add_argument("--checks", type=int, default=9, help="steady checks, 9 by default")
    arguments = parser.parse_args()
    results = []
    for name in arguments.network or networks.EVERY:
        results.append(profile(name, arguments.checks))
        show(results[-1])
    print("\n" + tabulate(results))


if __name__ == "__main__":
    main()
