"""When checks are due, and how they keep to a share of the training time."""

import math

import pytest

from gradhooks.schedule import Budget, Schedule


def due_steps(schedule, epochs, batches, per_execution=1):
    """Returns the steps at which a run of several epochs would check."""
    found = []
    for epoch in range(epochs):
        schedule.begin_epoch(epoch)
        for batch in range(0, batches, per_execution):
            if schedule.begin_batch(batch):
                found.append(schedule.step)
            schedule.end_batch(batch + per_execution - 1)
        if schedule.end_epoch(per_execution, batches):
            found.append(schedule.step)
    return found


@pytest.mark.parametrize(
    ("freq", "expected"),
    [("epoch", [10, 20]), (4, [4, 8, 12, 16, 20]), (lambda step: step in (3, 20), [3, 20])],
)
def test_steps_count_over_epochs(freq, expected):
    assert due_steps(Schedule(freq), 2, 10) == expected


def test_an_execution_of_many_batches_may_pass_the_multiple():
    assert due_steps(Schedule(4), 1, 10, per_execution=3) == [6, 9]


def test_a_batch_that_never_ends_is_not_counted():
    """Where the length is unknown, Keras begins one batch more than there are."""
    schedule = Schedule(1)
    for _ in range(2):
        for batch in range(3):
            schedule.begin_batch(batch)
            if batch < 2:
                schedule.end_batch(batch)
        schedule.end_epoch(1, None)
    assert schedule.step == 4


@pytest.mark.parametrize("ends", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_batches_may_end_late_and_in_any_order(ends):
    """On JAX other threads call the end of a batch, all of them before the epoch ends."""
    schedule = Schedule(1)
    for batch in range(3):
        schedule.begin_batch(batch)
    for batch in ends:
        schedule.end_batch(batch)
    schedule.end_epoch(1, None)
    assert schedule.step == 3


def test_a_resumed_run_goes_on_counting():
    schedule = Schedule(4)
    schedule.begin(10)
    assert due_steps(schedule, 1, 10) == [12, 16, 20]
    assert schedule.check_index == 5


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def train(budget, clock, batches, cost, freq=1, batch=1.0, most=math.inf):
    """Trains on a fake clock; returns the (step, allowance) of each check.

    Of the `cost` of a check, 0.8 are spent on 32 samples. The first one also
    traces the model, and takes twice as long as others after that. After none may
    the overhead be above `most` by more than what a shrunk check is misjudged.
    """
    made = []
    for step in range(batches):
        allowance = budget.call(step, step % freq == 0)
        if allowance is not None:
            share = 0.2 + 0.8 * allowance.samples / 32
            measuring = share * cost if made else 2 * cost
            seconds = measuring if made else 20 * cost
            clock.now += seconds
            budget.spent(seconds, allowance.samples, 2 * allowance.samples / 0.8, measuring)
            assert not made or budget.overhead <= 1.05 * most
            made.append((step, allowance))
        clock.now += batch
    return made


def test_without_a_limit_every_check_is_made_whole():
    clock = Clock()
    made = train(Budget(None, 32, clock), clock, 50, cost=5.0, freq=10)
    assert [step for step, _ in made] == [0, 10, 20, 30, 40]
    assert {a.samples for _, a in made} == {32}
    assert {a.postponed for _, a in made} == {0}


@pytest.mark.parametrize("most", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("cost", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("freq", [1, 25])
def test_the_share_is_kept(most, cost, freq):
    clock = Clock()
    budget = Budget(most, 32, clock)
    made = train(budget, clock, 2000, cost, freq, most=most)
    assert len(made) > 2


def test_a_late_check_says_so_and_is_shrunk_when_the_next_is_due():
    clock = Clock()
    made = train(Budget(0.1, 32, clock), clock, 200, cost=4.0, freq=10)
    late = [a for _, a in made if a.postponed]
    assert late
    assert all(8 <= a.samples <= 32 for _, a in made)
    assert any(a.samples < 32 for a in late)
    assert all(math.isfinite(a.overhead) for a in late)


def test_a_check_that_waits_is_made_as_soon_as_there_is_time():
    clock = Clock()
    budget = Budget(0.1, 32, clock)
    for step in (0, 1):
        assert budget.call(step, True).samples == 32
        clock.now += 1.0
        budget.spent(1.0, 32, 80, 1.0)
        clock.now += 10.0 * (1 - step)
    assert budget.call(2, True) is None
    assert budget.is_waiting
    clock.now += 30.0
    allowance = budget.call(9, False)
    assert (allowance.postponed, allowance.samples) == (7, 32)
    budget.spent(1.0, 32, 80, 1.0)
    assert not budget.is_waiting
    assert budget.call(10, False) is None


def test_the_second_check_waits_until_what_the_first_one_took_is_affordable():
    """It was made at once, to learn what one costs: in a short fit nearly all time was checking."""
    clock = Clock()
    budget = Budget(0.1, 32, clock)
    assert budget.call(0, True).samples == 32
    clock.now += 5.0
    budget.spent(5.0, 32, 80, 1.0)  # of which the model was traced for 4
    assert budget.call(1, True) is None
    clock.now += 9.9
    assert budget.call(2, False) is None
    clock.now += 0.2
    assert budget.call(3, False).postponed == 2


def test_a_first_check_that_ends_early_counts_as_a_whole():
    clock = Clock()
    budget = Budget(0.1, 32, clock)
    budget.spent(1.0, 32, 0, 0.0)
    clock.now += 9.0
    assert budget.call(1, True) is None
    clock.now += 1.1
    assert budget.call(2, False) is not None
