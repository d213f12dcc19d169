"""Figures over a run and over seeds: when a score crosses, and how sure a mean is (Efron 1979 for the bootstrap)."""

import math
from collections.abc import Sequence

import numpy as np


def crossing(
    tokens: Sequence[float], values: Sequence[float], chance: float, ceiling: float, share: float = 0.5
) -> float | None:
    """First token count at which `values` is `share` of the way from chance to ceiling, and stays there.

    None when that does not happen within the run (right-censored). Works for scores that fall, too.

    >>> crossing([0, 10, 20, 30, 40], [0.0, 0.6, 0.4, 0.7, 0.9], chance=0.0, ceiling=1.0)
    30
    """
    goal = chance + share * (ceiling - chance)
    rising = ceiling >= chance
    first: float | None = None
    for token, value in zip(tokens, values, strict=True):
        if math.isnan(value):
            continue
        reached = value >= goal if rising else value <= goal
        first = (token if first is None else first) if reached else None
    return first


def mean_interval(
    values: Sequence[float], level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean over seeds and its bootstrap interval; with fewer than two values the interval is the value itself."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return float(sample.mean()), float(sample.mean()), float(sample.mean())
    picks = np.random.default_rng(seed).integers(0, len(sample), size=(draws, len(sample)))
    low, high = np.quantile(sample[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(sample.mean()), float(low), float(high)
