"""From one value per seed to a mean and its interval, at many points at once (bootstrap, Efron 1979)."""

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
    if len(values) < 2:
        return mean, mean, mean
    from scipy.stats import bootstrap  # takes half a second to load, which a page without several seeds spares

    interval = bootstrap(
        (values,), np.mean, axis=0, vectorized=True, n_resamples=draws, confidence_level=level, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return mean, interval.low, interval.high
