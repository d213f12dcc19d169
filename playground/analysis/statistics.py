"""When a score crosses a share of the way to its ceiling in a run, and medians over runs of which some never cross.

The intervals need no assumption on the distribution of times. Their ends are two of the sorted times, chosen so that the
interval misses the true median in at most 5% of samples (inverted sign test; Conover 1999, Practical Nonparametric Statistics,
section 3.2). Fewer than six times have no such interval.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from playground.figures.aggregate import mean_and_band

LEVEL = 0.95
"""Confidence level of all intervals in this module."""


def crossing(
    tokens: Sequence[float], values: Sequence[float], chance: float, ceiling: float, share: float = 0.5
) -> float | None:
    """Token count after which `values` stays at or beyond `share` of the way from chance to ceiling.

    It is interpolated linearly between the last point before and the first point after, so that it depends little on how often
    the score was measured. None if that does not happen within the run (right-censored). Also works for scores that fall.

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
    """Median and its 95% interval. Times that were not reached are infinite: they count as later than all others.

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


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and its 95% t interval (Student 1908); the ends are NaN for fewer than two values.

    >>> [round(value, 3) for value in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan, math.nan, math.nan
    mean, low, high = mean_and_band(values[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def ratio_interval(times: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of the ratios of paired times, and its 95% interval.

    The two times of a pair share the seed, and so initial weights and data. If neither was reached, the ratio can have any
    value: the bounds hold for all of them, and the median is NaN if it depends on it.

    >>> ratio_interval(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 2.0]))
    (2.0, nan, nan)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = times / base
    unknown = np.isnan(ratios)  # inf / inf: replaced by the extremes 0 and infinity
    (least, low, _), (most, _, high) = (median_interval(np.where(unknown, value, ratios)) for value in (0.0, math.inf))
    return least if least == most else math.nan, low, high


def _median(ordered: NDArray[np.float64]) -> float:
    """Median of sorted numbers: the middle one, or the mean of the middle two; infinite if the later of the two is."""
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return float(middle.mean())
