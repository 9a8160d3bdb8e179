"""Where the error of a failed check is made."""

import dataclasses
from typing import Literal

from gradhooks.reports.readings import TapReading


@dataclasses.dataclass(frozen=True)
class Culprit:
    """Where the error of a failed check is made.

    Args:
        kind: `"layer"`: its own backward pass is wrong, towards its inputs or
            its weights; `"loss"`, `"regularizer"` or `"train_step"`.
        path: Path of the innermost layer; where the error stands in the `call`
            of a model or layer between inner layers, that one's; of a
            regularizer, its layer's; of a loss, its name.
        call: Which call of a layer that is called several times, from 0; None
            for one that is called once.
        evidence: What was measured, in sentences.
        source: File and line of the user's code, `"file:line"`; empty for code
            of an installed package.
        sentence: All of it in one sentence.
        taps: What is known of the gradient before and behind every call of a layer, in
            forward order; empty where nothing was measured there.
        finding: What is wrong with the gradient there, as far as measurements tell; empty
            where they tell nothing, or where a stored report is older than this field.
            It is part of the sentence, too.
        variable: Path of the weight whose gradient is wrong; empty for an error towards
            the inputs.
        package: Name and version of the installed package that the code belongs to;
            empty for code of the user.
        heirs: Paths of the failed variables whose gradient passes through the place
            of the error, so that they inherit it.

    Example:

    >>> Culprit("layer", "net/swish", None, (), "net.py:12", "the backward pass is wrong").path
    'net/swish'
    """

    kind: Literal["layer", "loss", "regularizer", "train_step"]
    path: str
    call: int | None = None
    evidence: tuple[str, ...] = ()
    source: str = ""
    sentence: str = ""
    taps: tuple[TapReading, ...] = ()
    finding: str = ""
    variable: str = ""
    package: str = ""
    heirs: tuple[str, ...] = ()
