"""The gradients at the taps of a model: each measured once, when it is asked for."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking import clear_failures, confirm, step_control, zero_gradients
from gradhooks.checking import measure as measuring
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.numerics import determinism, sampling
from gradhooks.numerics.probe import Probe
from gradhooks.reports.readings import TapReading, Word
from gradhooks.reports.reasons import Reason
from gradhooks.verdicts import pinpointing, proof


class TapGradients:
    """The gradient at every tap, by backpropagation and measured.

    Args:
        context: The `CheckContext` of the check.
        tapped: The `TappedModel`.

    Attributes:
        places: The places of the taps, by number.
        slopes: float64, one for each place. The gradient of the total loss by backpropagation.
    """

    def __init__(self, context: CheckContext, tapped: Any) -> None:
        self._context, self._oracle = context, tapped.oracle
        self._threshold = context.threshold
        self.places: Sequence[Any] = tapped.places
        oracle = tapped.oracle
        point = oracle.point()
        gradients = oracle.gradients(point).terms
        base = context.baseline
        gradient_noise = None
        if base.gradient_noise is not None:
            again = oracle.gradients(point).terms
            gradient_noise = determinism.gradient_noise(oracle.layout, gradients, [again])
        # The taps are zero: the loss is what it was, and so is its noise.
        self._at = EvaluationPoint(
            point,
            gradients,
            base.base,
            base.noise,
            base.jitter,
            base.has_dense_kinks,
            gradient_noise,
        )
        self._known: dict[int, Measurement] = {}
        self._first = int(oracle.layout.offsets[tapped.first])
        self.slopes: Vector = gradients["total"][self._first : self._first + len(self.places)]
        dtype = "float64"
        if context.oracle.precision.level != "float64":
            dtype = context.oracle.training_dtype
        self._zero_levels = [*proof.zero_levels(gradients, dtype).values()]

    @property
    def at(self) -> EvaluationPoint:
        """The `EvaluationPoint`, with the taps."""
        return self._at

    def is_wrong(self, number: int) -> bool:
        """Whether the gradient at a tap is wrong."""
        return self.measure(number).has_failed

    def is_right(self, number: int) -> bool:
        """Whether it is right, or zero as it should be; neither where it cannot be decided."""
        measured = self.measure(number)
        if measured.is_vacuous:
            # An error bar wider than both derivatives hides a wrong one as well as a right one.
            pairs = zip(measured.analytic, self._zero_levels, strict=True)
            return all(abs(analytic) <= level for analytic, level in pairs)
        return measured.has_passed

    def is_decided(self, number: int) -> bool:
        """Whether the gradient at a tap is either."""
        return self.is_wrong(number) or self.is_right(number)

    def is_confirmed(self, number: int) -> bool:
        """Whether what is wrong at a tap is a wrong gradient, and no loss without a short step.

        A network that multiplies the smallest difference has a right gradient that no
        quotient shows.
        """
        return self._is_steady(self.measure(number))

    def is_blocked(self, number: int) -> bool:
        """Whether the loss depends on a tap at which the gradient is zero."""
        if self.is_wrong(number):
            return True
        layout, settings = self._oracle.layout, self._context.settings
        variable = layout.variable_of(self._first + number)
        # Taps are in units of the tensor that they move.
        scales = np.ones(len(layout))
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.BLOCKED)
        moved = zero_gradients.move_variables(
            layout, self._oracle, self._at, scales, [variable], rng
        )
        return any(zero.is_blocked for zero in moved)

    def measure(self, number: int) -> Measurement:
        """Measures at a tap by a single quotient, and by sequences of steps if it disagrees.

        A failure that is not clear, such as one among kinks, must repeat at finer steps.
        """
        if number not in self._known:
            self._known[number] = self._measure(Probe(self._first + number, np.ones(1)))
        return self._known[number]

    def wrong_inside(self, place: Any) -> list[Any]:
        """Returns the calls inside of another, at any depth, before which the gradient is wrong."""
        wrong: list[Any] = []
        inside = {place.number}
        for other in self.places[place.number + 1 :]:
            if other.enclosing in inside and not other.is_output:
                inside.add(other.number)
                if self.is_wrong(other.number):
                    wrong.append(other)
        return wrong

    def readings(self) -> tuple[TapReading, ...]:
        """Returns what is known of every tap by now, in forward order; measures nothing."""
        readings: list[TapReading] = []
        for place, slope in zip(self.places, self.slopes, strict=True):
            reading = TapReading(place.layer, place.call, place.is_output, analytic=float(slope))
            measured = self._known.get(place.number)
            if measured is not None:
                failed = measured.failed_comparands
                word = _choose_word(measured)
                compared = pinpointing.choose_worst(failed.values() or [measured.comparand(0)])
                reading = pinpointing.fill_reading(reading, word, compared)
            elif not np.isfinite(slope):
                reading = dataclasses.replace(reading, word="wrong")
            readings.append(reading)
        return tuple(readings)

    def _measure(self, probe: Probe) -> Measurement:
        oracle, threshold = self._oracle, self._threshold
        measured = step_control.first_estimates(oracle, self._at, [probe], threshold)
        if not measured[0].is_accepted:
            measured = clear_failures.refine_until_clear(oracle, self._at, measured, threshold)
        if _is_unclear(measured[0]):
            measured = measuring.refine(oracle, self._at, measured, threshold, is_fine=True)
        if _is_unclear(measured[0]) and not self._is_steady(measured[0]):
            return measured[0].withdraw(Reason.NOISE)
        return measured[0]

    def _is_steady(self, measured: Measurement) -> bool:
        """Whether the gradient stays within the step of a failure."""
        tapped = dataclasses.replace(self._context, oracle=self._oracle, baseline=self._at)
        return not confirm.varies_along_step(tapped, measured)


def _is_unclear(measured: Measurement) -> bool:
    return measured.has_failed and not measured.is_clear_failure


def _choose_word(measured: Measurement) -> Word:
    """How the gradient is that was measured at a tap."""
    if measured.has_failed:
        return "wrong"
    if measured.has_passed:
        return "right"
    return "zero" if measured.is_vacuous else "undecided"
