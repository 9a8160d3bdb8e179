"""Models of which little or nothing can be measured: what was not measured must not pass.

Each has a place, above parameters that do have a gradient, where a
hand-written gradient multiplies what comes from above by a factor. At any
factor but 1 the gradient is wrong, and the model must not pass, by whatever
it is made hard to measure. At 1 it is right, and must not fail.
`python -m tools.unproved` prints what a check says of each at each factor.
"""

from tests.corpora.unproved import dead, eight_bits, jumps, narrow, offsets

ENTRIES = (*offsets.ENTRIES, *eight_bits.ENTRIES, *dead.ENTRIES, *jumps.ENTRIES, *narrow.ENTRIES)
