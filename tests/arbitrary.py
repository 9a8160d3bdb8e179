"""Reports with anything in them that their types allow, for properties."""

from hypothesis import strategies as st

from gradhooks.reports.circumstances import Coverage, Origin, Precision
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.readings import TapReading
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TERMS, DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
COUNTS = st.integers(0, 2**40)
# Words that look like numbers are the ones that a careless reader converts; any code point may
# stand in a name.
_HOSTILE = [
    "nan",
    "inf",
    "-inf",
    "NaN",
    "1.0",
    "null",
    '"',
    "é∂",
    "a\nb\r\u2028",
    "\ud800",
    "\x1b[31m",
    "[red]",
    "*",
]
WORDS = st.one_of(st.text(st.characters(), max_size=12), st.sampled_from(_HOSTILE))
MANY_WORDS = st.lists(WORDS, max_size=3).map(tuple)
VERDICTS, REASONS = st.sampled_from(Verdict), st.sampled_from(Reason)
INDICES = st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple)
PER_TERM = st.dictionaries(st.sampled_from(TERMS), NUMBERS)
DERIVATIVES = st.builds(
    DerivativeComparison,
    path=WORDS,
    index=INDICES,
    term=st.sampled_from(TERMS),
    analytic=NUMBERS,
    numeric=NUMBERS,
    error=NUMBERS,
    step_size=NUMBERS,
    relative_difference=NUMBERS,
    verdict=VERDICTS,
    reason=REASONS,
    left=NUMBERS,
    right=NUMBERS,
    allowed=NUMBERS,
    position=COUNTS,
    magnitude=NUMBERS,
    is_kink=st.booleans(),
    truncation=NUMBERS,
)
GRADIENTS = st.builds(
    GradientComparison,
    path=WORDS,
    analytic_norm=NUMBERS,
    received_norm=NUMBERS,
    distance=NUMBERS,
    relative_difference=NUMBERS,
    verdict=VERDICTS,
    reason=REASONS,
    allowed=NUMBERS,
    rounding=NUMBERS,
    position=COUNTS,
    cosine=NUMBERS,
    ratio=NUMBERS,
    zeros=NUMBERS,
    dtype=WORDS,
)
COMPARISONS = DERIVATIVES | GRADIENTS
DIAGNOSES = st.builds(Diagnosis, WORDS, WORDS, MANY_WORDS, NUMBERS, NUMBERS, st.booleans())
TAPS = st.builds(
    TapReading,
    WORDS,
    COUNTS,
    st.booleans(),
    st.sampled_from(["right", "wrong", "not measured"]),
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    st.none() | NUMBERS,
)
CULPRITS = st.builds(
    Culprit,
    st.sampled_from(["layer", "loss", "regularizer", "train_step"]),
    WORDS,
    st.none() | COUNTS,
    MANY_WORDS,
    WORDS,
    WORDS,
    taps=st.lists(TAPS, max_size=2).map(tuple),
)
ORIGINS = st.builds(
    Origin, NUMBERS, WORDS, WORDS, WORDS, WORDS, st.dictionaries(WORDS, WORDS, max_size=2)
)
REPORTS = st.builds(
    CheckReport,
    step=COUNTS,
    verdict=VERDICTS,
    reason=REASONS,
    relative_difference=PER_TERM,
    comparisons=st.lists(COMPARISONS, max_size=3).map(tuple),
    diagnoses=st.lists(DIAGNOSES, max_size=2).map(tuple),
    loss=PER_TERM,
    threshold=NUMBERS,
    precision=st.builds(Precision, WORDS, MANY_WORDS, MANY_WORDS, NUMBERS, WORDS),
    coverage=st.builds(Coverage, COUNTS, COUNTS, COUNTS, COUNTS),
    seed=COUNTS,
    samples=COUNTS,
    evaluations=COUNTS,
    jitter=NUMBERS,
    replaced=COUNTS,
    trail=MANY_WORDS,
    notes=MANY_WORDS,
    error=WORDS,
    seconds=NUMBERS,
    name=WORDS,
    expect=st.lists(
        st.tuples(WORDS, WORDS | st.sampled_from(["blocked", "mismatch"])), max_size=2
    ).map(tuple),
    culprit=st.none() | CULPRITS,
    origin=ORIGINS,
)
