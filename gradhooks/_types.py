"""Names of the array types that signatures use."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# float64, shape (P,): one number per parameter.
Vector: TypeAlias = NDArray[np.float64]
# float64, shape (V,): one number per variable.
PerVariable: TypeAlias = NDArray[np.float64]
# float64, shape (T,): one number per loss term.
PerTerm: TypeAlias = NDArray[np.float64]
