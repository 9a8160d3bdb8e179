"""The report of one check."""

import dataclasses
from typing import TYPE_CHECKING, Any, Self

from gradhooks.reports import serialization
from gradhooks.reports.brief import describe_briefly
from gradhooks.reports.errors import GradientMismatchError
from gradhooks.reports.html import render_html
from gradhooks.reports.plot import draw_report
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import Report
from gradhooks.reports.table import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class CheckReport(Report):
    """Everything that one check found; `print` shows it as a table.

    Args:
        step: Number of training batches before the check.
        verdict: FAIL if anything failed, PASS if something was compared and
            nothing failed, else INCONCLUSIVE.
        reason: The reason for `verdict`.
        relative_difference: `||a - n|| / (||a|| + ||n||)` over the sampled
            parameters, per term; NaN where nothing was measured.
        comparisons: All comparisons: of single parameters, along directions,
            then of whole gradients.
        diagnoses: One per failed variable, the leading one first.
        loss: Loss per term at the checked point.
        threshold: Relative difference above which a comparison can fail.
        precision: A `Precision`.
        coverage: A `Coverage`.
        seed: Seed of the sampling.
        samples: Number of parameters to sample, as asked for.
        evaluations: Number of loss evaluations.
        jitter: Difference of the loss between two evaluations at one point.
        replaced: Number of probes replaced because they were at a kink.
        trail: How bisection found the last wrong variable, one line per step.
        notes: Remarks for people.
        error: What went wrong in the check itself; empty if nothing did.
        seconds: Wall time of the check.
        overhead: Time spent on checks per time spent on training, since the
            first check of the run; NaN where it was not measured.
        postponed: By how many batches the check was late to keep within
            `max_overhead`.
        name: Name of the check.
        expect: Declared mismatches, pairs (path pattern, kind).
        culprit: Where the error of a failed check is made, a `Culprit`; None
            where nothing failed, and where it cannot be told.
        checked: What was checked: `"model"`, `"layer"` by `assert_gradients`, or
            `"function"` by `check_function`.
        arguments: Further arguments of the check that are not the defaults, pairs
            (name, Python text).
        origin: When it was checked, in which `fit()`, and with which versions: an
            `Origin`.
        saved_in: Directory from which `gradhooks.replay` makes the check again; empty
            where nothing was kept.

    Example:

    >>> from gradhooks import Reason
    >>> report = CheckReport(
    ...     step=100,
    ...     verdict=Verdict.PASS,
    ...     reason=Reason.AGREES,
    ...     relative_difference={"total": 1e-9},
    ... )
    >>> CheckReport.from_json(report.to_json()).relative_difference
    {'total': 1e-09}
    >>> report.failures
    ()
    """

    def raise_on_failure(self) -> Self:
        """Returns the report, unless its verdict is FAIL.

        Raises:
            gradhooks.GradientMismatchError: If the verdict is FAIL.
        """
        if self.verdict is Verdict.FAIL:
            raise GradientMismatchError(self)
        return self

    def plot(self, figure: Any = None) -> "Figure":
        """Draws the report with matplotlib, which the extra `gradhooks[plot]` installs.

        On the left every measured derivative over the analytic one, with its error bar:
        what is right lies on the diagonal, and failures are named. On the right the
        relative difference of every comparison, a row for each variable, the worst 30
        of them, with the threshold as a line.

        Args:
            figure: A matplotlib `Figure` or `SubFigure` to draw into. Defaults to
                None: a new one, which a notebook shows once, as the last line of a
                cell, and which pyplot does not keep.

        Returns:
            The figure, for example for `savefig`.

        Raises:
            BadInputError: If `figure` is no figure.
            ImportError: If matplotlib is not installed.

        Example:

        >>> from gradhooks import Reason
        >>> report = CheckReport(7, Verdict.PASS, Reason.AGREES, {})
        >>> len(report.plot().axes)
        2
        """
        return draw_report(self, figure)

    def to_json(self) -> str:
        """Returns the report as one line of strict JSON in ASCII.

        NaN and infinities, which JSON does not know, become strings.
        """
        return serialization.dumps(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Returns the report that `to_json` wrote.

        Fields that this version does not know are ignored; missing fields get
        their defaults. A field without a default must be there, and every
        field must be of its type.

        Raises:
            ValueError: If `text` is not such a report.
        """
        return serialization.loads(cls, text)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {describe_briefly(self)}>"

    def _repr_html_(self) -> str:
        # What a notebook shows.
        return render_html(self)

    def __str__(self) -> str:
        return render(self)
