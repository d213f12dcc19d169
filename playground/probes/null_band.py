"""The null band of a score that is drawn under chance: DRAWS draws, of which the second largest is the band.

One more draw under chance is among the two largest of all DRAWS + 1 with probability 2 / 200, so that it exceeds the band once
in a hundred times (less often where draws can be equal).
"""

import numpy as np
from jaxtyping import Float

DRAWS = 199
"""Draws of a band."""
SECOND = -2


def band_of(draws: Float[np.ndarray, "*rest"], axis: int = 0) -> Float[np.ndarray, "*left"]:
    """The second largest along `axis`, which holds the draws; NaN where one of the two largest is.

    >>> band_of(np.array([[3.0, 1.0], [5.0, 1.0], [4.0, float("nan")]]))
    array([4., 1.])
    """
    largest = np.partition(draws, SECOND, axis=axis)
    return np.take(largest, SECOND, axis=axis)
