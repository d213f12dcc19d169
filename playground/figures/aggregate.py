"""From one value per seed to a mean and its interval, at many points at once (bootstrap, Efron 1979)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def mean_and_band(
    values: NDArray[np.float64], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the first axis of `[seed, point]`, and the percentile bootstrap interval of that mean at every point.

    With fewer than two seeds the interval is the value itself.

    >>> mean, low, high = mean_and_band(np.array([[0.0, 1.0], [1.0, 1.0]]))
    >>> mean.tolist(), low.tolist(), high.tolist()
    ([0.5, 1.0], [0.0, 1.0], [1.0, 1.0])
    """
    mean = values.mean(axis=0)
    return (mean, mean, mean) if len(values) < 2 else (mean, *_band(values.tobytes(), len(values), level, draws, seed))


@lru_cache(maxsize=256)
def _band(
    values: bytes, count: int, level: float, draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval of `count` seeds, remembered: a page draws the same values again at every click."""
    picks = np.random.default_rng(seed).integers(count, size=(draws, count))
    # How often each seed was drawn, times the values, is the sum over a draw: for 500 seeds a hundred times as fast as to
    # collect the values (scipy.stats.bootstrap), from the same draws.
    flat = (picks + count * np.arange(draws)[:, None]).ravel()
    often = np.bincount(flat, minlength=draws * count).reshape(draws, count).astype(np.float64)
    means = often @ np.frombuffer(values, np.float64).reshape(count, -1) / count
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
