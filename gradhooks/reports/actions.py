"""What to do about a report: an action per cause, how to declare it, and how to repeat it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from gradhooks.reports.answer import OF_BACKPROPAGATION
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import EVERYTHING, Comparison, Report
from gradhooks.reports.text import printable

# How many variables a line declares; a free choice, so that it stays one line.
SHOWN = 3

_MEANT = "If it is meant:"
DECLARABLE = (Reason.MISMATCH, Reason.BLOCKED, Reason.UNTRAINED)
# What to look for in code whose backward pass is wrong, by the reason of the failures.
LOOK_FOR = {
    Reason.MISMATCH: (
        "a custom gradient, or another derivative that is written by hand, and compare it with "
        "the forward pass"
    ),
    Reason.BLOCKED: (
        "stop_gradient, rounding, argmax, a cast to integers, or a value that leaves the graph "
        "(NumPy)"
    ),
    Reason.NON_FINITE_GRADIENT: (
        "sqrt, log, division, a norm or a power below 1 at zero, acos or asin at +-1; keep their "
        "argument away from there, for where() behind them hides the value and not the gradient"
    ),
    Reason.GRADIENT_FAILS: (
        "a custom gradient that returns too many gradients, or gradients of the wrong shape, and "
        "an operation without a gradient"
    ),
}


# What to do about a training step, by a part of the sentence that says what it does.
STEP_ACTIONS = {
    "calls the model with": "call the model as fit() does, with `training=True`",
    "leaves out the": "pass `sample_weight` to `self.compute_loss`",
    "broadcast to (N, N)": "give targets and outputs the same shape",
    "the forward pass assigns to": "leave assignments to weights out of the forward pass",
    "draws another mask": (
        "leave dropout out of what is recomputed, or the recomputation (keras.remat, "
        "tf.recompute_grad) out of this layer"
    ),
    "drops the regularization": "add `sum(self.losses)` to the loss, or take `self.compute_loss`",
    "regularization twice": "add `self.losses` once: `self.compute_loss` has added them",
    "loss scale": "change the gradient behind `optimizer.apply`, which divides the loss scale out",
    "not reset": "set what is accumulated to zero when it has been applied",
}
_CHECK_ALONE = ["check the layer alone: gradhooks.testing.assert_gradients(layer, x)"]
OTHER_STEP = (
    "take the loss from `self.compute_loss`, which includes the penalties, and pass its gradient "
    "on unchanged"
)


def advice(report: Report) -> list[str]:
    """Returns what to do about a report, a line for each cause.

    Where the place of an error is known, that is where to look and for what;
    otherwise what each reason means, what usually causes it, and what to try. The last
    line says how to declare what is meant, where it can be.
    """
    lines: list[str] = []
    culprit, reasons = report.culprit, _list_reasons(report)
    if culprit is not None and culprit.kind == "train_step":
        where = f"in {_place_of(culprit)}, " if culprit.source else ""
        lines.append(where + _choose_step_action(culprit.finding))
        reasons = [r for r in reasons if r is not Reason.UNTRAINED]
    elif culprit is not None:
        lines += _look_there(culprit, [r for r in reasons if r in OF_BACKPROPAGATION])
        if culprit.kind == "layer" and not _is_holder(culprit, culprit.heirs):
            lines += _CHECK_ALONE if report.checked == "model" else []
        reasons = [r for r in reasons if r not in OF_BACKPROPAGATION]
    lines += [f"{reason}: {reason.explanation}" for reason in reasons]
    return [*lines, *declaration(report.failures, culprit)]


def declaration(failures: Sequence[Comparison], culprit: Culprit | None = None) -> list[str]:
    """Returns the line on how to declare intended failures; no line if none can be declared.

    Args:
        failures: `Comparison`s that fail.
        culprit: Where the error is made, if that is known. A layer is declared
            with all that lies below it, a loss or a training step with every
            variable; otherwise each variable is.
    """
    declarable = [c for c in failures if c.reason in DECLARABLE]
    if not declarable:
        return []
    reasons: dict[str, set[Reason]] = {}
    for c in declarable:
        if c.path != EVERYTHING:  # a direction over all variables says nothing about any one
            reasons.setdefault(c.path, set()).add(c.reason)
    if culprit is not None and culprit.kind == "loss" and not culprit.variable:
        return [_declare({EVERYTHING: _kind_of({c.reason for c in declarable})})]
    if culprit is not None and culprit.kind == "layer" and not _is_holder(culprit, reasons):
        found = {c.reason for c in declarable if c.path != EVERYTHING}
        name = _escape(culprit.path.rpartition("/")[2])
        return [_declare({f"*/{name}": _kind_of(found)})]
    is_step = {c.reason for c in declarable} == {Reason.UNTRAINED}
    if is_step and len(reasons) > SHOWN:
        return [_declare({EVERYTHING: "untrained"})]

    shown: dict[str, str] = {}
    for path, found in list(reasons.items())[:SHOWN]:
        shown[_escape(path)] = _kind_of(found)
    shown = shown or {"path/of/the/variable": "mismatch"}

    more = ""
    if len(reasons) > SHOWN:
        more = f", and so on for {len(reasons) - SHOWN} more; patterns may have a *"
    return [_declare(shown) + more]


def reproduction(report: Report) -> str:
    """Returns the line of Python that measures the same numbers again."""
    if report.saved_in:
        own = dict(report.arguments).get("loss_fn", "")
        # The directory may come from anywhere, and the line is there to be run.
        name = own if all(part.isidentifier() for part in own.split(".")) else "loss_fn"
        loss = f", loss_fn={name}" if own else ""
        return f"gradhooks.replay({printable(repr(report.saved_in))}, model{loss})"
    settings: dict[str, float] = {"samples": report.samples, "seed": report.seed}
    if report.checked == "model":
        settings["step"] = report.step
    settings["threshold"] = report.threshold
    # NaN and infinity print as names that Python does not know.
    known = [f"{name}={value}" for name, value in settings.items() if math.isfinite(value)]
    given = dict(report.arguments)
    data = "x" if given.pop("y", "") == "None" else "x, y"
    known += [f"{name}={printable(text)}" for name, text in given.items()]
    if report.expect:
        known.append(f"expect={printable(dict(report.expect))}")
    call = {
        "model": f"gradhooks.check_gradients(model, {data}",
        "layer": "gradhooks.testing.assert_gradients(layer, x",
        "function": "gradhooks.check_function(loss, gradient, parameters",
    }[report.checked]
    return f"{call}, {', '.join(known)})"


def reproduction_line(report: Report) -> str:
    """Returns the line that says how to measure the same numbers again."""
    if report.saved_in:
        return f"Reproduce with the weights and the batch saved there: {reproduction(report)}"
    same = {"model": "weights and batch", "layer": "weights and inputs", "function": "parameters"}
    return f"Reproduce with the same {same[report.checked]}: {reproduction(report)}"


def _list_reasons(report: Report) -> list[Reason]:
    """The reasons of single variables; a direction over all of them has none of its own."""
    failures = report.failures
    single = [c.reason for c in failures if c.path != EVERYTHING]
    return list(dict.fromkeys(single or [c.reason for c in failures])) or [report.reason]


def _look_there(culprit: Culprit, reasons: Sequence[Reason]) -> list[str]:
    """Where to look, and for what."""
    lines = [f"in {_place_of(culprit)}, look for {LOOK_FOR[reason]}" for reason in reasons]
    if culprit.package:
        lines.append(
            f"the code is that of {printable(culprit.package)}: try another version of it, or "
            "something else in its place, and report it to its authors"
        )
    return lines


def _choose_step_action(finding: str) -> str:
    actions = [action for words, action in STEP_ACTIONS.items() if words in finding]
    return "; ".join(actions) or OTHER_STEP


def _place_of(culprit: Culprit) -> str:
    """The file and line, or what it is."""
    what = {
        "layer": "",
        "loss": "the loss ",
        "regularizer": "the regularizer of ",
        "train_step": "",
    }
    return printable(culprit.source or f"{what[culprit.kind]}`{culprit.path}`")


def _is_holder(culprit: Culprit, paths: Iterable[str]) -> bool:
    """Whether a layer holds some variables. It may be the whole model, of which much is right."""
    return any(path.startswith(f"{culprit.path}/") for path in paths)


def _declare(kinds: Mapping[str, str]) -> str:
    return f"{_MEANT} expect={printable(kinds)}"


def _escape(path: str) -> str:
    """Returns a pattern that only a path itself matches: brackets, stars, question marks would."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _kind_of(found: set[Reason]) -> str:
    if found == {Reason.BLOCKED}:
        return "blocked"
    return "untrained" if found == {Reason.UNTRAINED} else "mismatch"
