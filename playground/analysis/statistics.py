"""When a score crosses a share of the way to its ceiling, in a run; and medians over runs of which some never cross.

The intervals hold for times of any distribution: between two of the sorted times, so that they miss the true median in at most
5% of samples (the sign test turned round; Conover 1999, Practical Nonparametric Statistics, section 3.2). Fewer than six times
have no such interval.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
"""Of all intervals here."""


def crossing(
    tokens: Sequence[float], values: Sequence[float], chance: float, ceiling: float, share: float = 0.5
) -> float | None:
    """Token count from which on `values` is `share` of the way from chance to ceiling, and stays there.

    It lies on the straight line between the last point before and the first after, so that it does not hang on how often was
    measured. None when that does not happen within the run (right-censored). Works for scores that fall, too.

    >>> crossing([0, 10, 20, 30, 40], [0.0, 0.6, 0.4, 0.6, 0.9], chance=0.0, ceiling=1.0)
    25.0
    """
    goal = chance + share * (ceiling - chance)
    rising = ceiling >= chance
    first: float | None = None
    before: tuple[float, float] | None = None
    for token, value in zip(tokens, values, strict=True):
        if math.isnan(value):
            continue
        if not (value >= goal if rising else value <= goal):
            first, before = None, (token, value)
        elif first is None:
            part = (goal - before[1]) / (value - before[1]) if before is not None else 1.0
            first = token if before is None else before[0] + part * (token - before[0])
    return None if first is None else float(first)


def median_interval(times: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median and its 95% interval. Times that were not reached are infinite, and count as later than all others.

    The bounds are NaN for fewer than six times.

    >>> median_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.inf]))
    (3.5, 1.0, inf)
    >>> median_interval(np.array([1.0, 2.0, np.inf]))
    (2.0, nan, nan)
    """
    if not len(times):
        return math.nan, math.nan, math.nan
    found = stats.quantile_test(np.arange(1, len(times) + 1), p=0.5).confidence_interval(LEVEL)
    ordered = np.sort(times)
    low, high = (math.nan if math.isnan(rank) else float(ordered[int(rank) - 1]) for rank in (found.low, found.high))
    return _median(ordered), low, high


def ratio_interval(times: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of the ratios of pairs and its 95% interval, which is that of the one that can be claimed.

    Both members of a pair have the seed, and so initial weights and data, in common. Where neither was reached the ratio can be
    anything: the bounds, and the median where it depends on it (NaN), allow for that.

    >>> ratio_interval(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 2.0]))
    (2.0, nan, nan)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = times / base
    unknown = np.isnan(ratios)
    (least, low, _), (most, _, high) = (median_interval(np.where(unknown, value, ratios)) for value in (0.0, math.inf))
    return least if least == most else math.nan, low, high


def _median(ordered: NDArray[np.float64]) -> float:
    """Of sorted numbers, the middle one or the mean of the middle two; infinite when the later of the two is."""
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return float(middle.mean())
