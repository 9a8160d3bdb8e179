"""The words that the page uses, written once: as a module of JavaScript."""

import json

from gradhooks.reports.records import EVERYTHING, TERMS
from gradhooks.tensorboard_plugin.cells import CODES
from gradhooks.tensorboard_plugin.layers import NOT_MEASURED
from gradhooks.tensorboard_plugin.overview import SHOWN_TERMS

_MEANINGS = {
    "worst": "of all terms the one that fails, or is nearest to it",
    "total": "the whole loss, regularization included",
    "data": "the loss with regularization off",
    "penalty": "regularization alone",
    "trained": "what the optimizer receives, against backpropagation",
}
_NOTHING = {
    "worst": "No check of this run compared anything.",
    "total": "No check of this run compared anything.",
    "data": "This model has no penalty: its data term is the total.",
    "penalty": "This model has no penalty.",
    "trained": "No check of this run recorded what the optimizer receives.",
}
_NAMES = {
    "unsampled": "not sampled",
    "vacuous": "nothing to compare",
    "pass": "PASS",
    "declared": "declared",
    "inconclusive": "INCONCLUSIVE",
    "fail": "FAIL",
}


def build_module() -> str:
    """Returns the text of a module that exports `WORDS`.

    Its `terms` are in the order of the switch, the first the one that is shown at
    first; a cell of the matrix holds an index into `codes`.
    """
    terms = []
    for name in SHOWN_TERMS:
        terms.append({"name": name, "meaning": _MEANINGS[name], "nothing": _NOTHING[name]})
    words = {
        "terms": terms,
        "measured": TERMS,
        "codes": [{"name": name, "told": _NAMES[name]} for name in CODES],
        "everything": EVERYTHING,
        "notMeasured": NOT_MEASURED,
    }
    return f"export const WORDS = {json.dumps(words)};\n"
