"""From one value per seed to a mean and its interval, at many points at once (bootstrap, Efron 1979)."""

import numpy as np
from numpy.typing import NDArray


def mean_and_band(
    values: NDArray[np.float64], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the first axis of `[seed, point]`, and the bootstrap interval of that mean at every point.

    >>> mean, low, high = mean_and_band(np.array([[0.0, 1.0], [1.0, 1.0]]))
    >>> mean.tolist(), low.tolist(), high.tolist()
    ([0.5, 1.0], [0.0, 1.0], [1.0, 1.0])
    """
    mean = values.mean(axis=0)
    count = len(values)
    if count < 2:
        return mean, mean, mean
    picks = np.random.default_rng(seed).integers(0, count, size=(draws, count))
    weights = (picks[:, :, None] == np.arange(count)).sum(axis=1) / count
    low, high = np.quantile(weights @ values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return mean, low, high
