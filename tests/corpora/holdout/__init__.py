"""Cases that nobody looks at while the rule is tuned: forty wrong and forty healthy.

They are written before the rule is touched and reported as a number of their
own, so that what the two corpora say of the rule is not only what it was
fitted to. Whoever changes a constant runs them last, once.
"""

from tests.corpora.holdout import healthy, wrong

WRONG = list(wrong.CASES)
HEALTHY = list(healthy.CASES)
