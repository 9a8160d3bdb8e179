"""What pytest loads: the fixture `gradcheck`, and a line on its checks below a run.

It is imported in every run of pytest where gradhooks is installed, and so imports
nothing but pytest before a test asks for the fixture.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

# Name under which a test keeps what a check has cost: workers hand it on to the one that reports.
_PROPERTY = "gradhooks"


class GradCheck:
    """Checks gradients in a test: what the fixture `gradcheck` is.

    Args:
        note: Called with the verdict's name and the seconds of every check.
    """

    def __init__(self, note: Callable[[str, float], None]) -> None:
        self._note = note

    def __call__(self, layer_or_model: Any, x: Any, y: Any = None, **options: Any) -> Any:
        """Checks a layer or a compiled model, see `gradhooks.testing.assert_gradients`."""
        __tracebackhide__ = True
        from gradhooks.testing import assert_gradients

        return self._run(assert_gradients, layer_or_model, x, y, **options)

    def function(self, loss: Any, gradient: Any, parameters: Any, **options: Any) -> Any:
        """Checks a function, see `gradhooks.testing.assert_function_gradients`."""
        __tracebackhide__ = True
        from gradhooks.testing import assert_function_gradients

        return self._run(assert_function_gradients, loss, gradient, parameters, **options)

    def _run(self, check: Callable[..., Any], *args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        started, verdict = time.perf_counter(), "FAIL"
        try:
            report = check(*args, **options)
            verdict = report.verdict.name
            return report
        finally:
            self._note(verdict, time.perf_counter() - started)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> GradCheck:
    """Checks the gradients of a layer, a compiled model, or (`gradcheck.function`) a function."""

    def note(verdict: str, seconds: float) -> None:
        request.node.user_properties.append((_PROPERTY, [verdict, seconds]))

    return GradCheck(note)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Writes how many checks the tests made, and how long they took; nothing without any."""
    costs = list(_find_costs(terminalreporter.stats.values()))
    if costs:
        seconds = sum(cost for _, cost in costs)
        failed = sum(verdict == "FAIL" for verdict, _ in costs)
        words = f"gradhooks: {len(costs)} gradient check{'s' * (len(costs) > 1)}"
        terminalreporter.write_line(f"{words}, {failed} failed, {seconds:.1f} s")


def _find_costs(groups: Iterable[Iterable[Any]]) -> Iterable[tuple[str, float]]:
    """Yields the verdict and the seconds of every check, from the reports of the calls."""
    for group in groups:
        for report in group:
            if getattr(report, "when", None) == "call":
                for name, cost in report.user_properties:
                    if name == _PROPERTY:
                        yield cost
