"""The null band of a score: the second largest of DRAWS draws from its null distribution (the 99th percentile).

One more draw is among the two largest of all DRAWS + 1 with probability 2 / 200, so a chance score exceeds the band once in a
hundred times (less often where draws can be equal).
"""

import numpy as np
from jaxtyping import Float

DRAWS = 199
"""Draws from the null distribution for one band."""
SECOND = -2


def band_of(draws: Float[np.ndarray, "*rest"], axis: int = 0) -> Float[np.ndarray, "*left"]:
    """The second largest value along `axis`, the axis of the draws; NaN where the largest or second largest is NaN.

    >>> band_of(np.array([[3.0, 1.0], [5.0, 1.0], [4.0, float("nan")]]))
    array([4., 1.])
    """
    largest = np.partition(draws, SECOND, axis=axis)
    return np.take(largest, SECOND, axis=axis)
