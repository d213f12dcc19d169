"""Mean over seeds and its t interval (Student 1908), at many points at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


def mean_and_band(
    values: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the first axis of `[seed, point]`, and the lower and upper bound of its t interval, each `[point]`.

    For normally distributed values the interval contains the true mean in `level` of cases, for any number of seeds from 2 on.
    With one seed there is no interval: both bounds are the value itself.

    >>> mean, low, high = mean_and_band(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))
    >>> mean.tolist(), low.round(2).tolist(), high.round(2).tolist()
    ([1.0, 1.0], [-1.48, 1.0], [3.48, 1.0])
    """
    mean, count = values.mean(axis=0), len(values)
    if count < 2:
        return mean, mean, mean
    half = stdtrit(count - 1, (1 + level) / 2) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half
