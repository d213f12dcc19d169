"""The effect of one arm against another over pairs of seeds: ratio or difference, its interval, a test, and what it could show.

The two runs of a pair share the seed, and so initial weights where shapes agree and the order of the data. Needs no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from playground.analysis.statistics import LEVEL, mean_interval, median_interval, ratio_interval
from playground.analysis.survival import Times

POWER = 0.8
"""Probability with which the smallest detectable effect would have been found."""
MOST_EXACT = 16
"""Most pairs whose 2^pairs sign flips are all tried; of more pairs, that many flips are drawn."""
FLIPS_SEED = 20261130


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An arm against the reference over pairs of seeds."""

    kind: Literal["ratio", "difference"]
    pairs: int
    """Number of pairs of seeds."""
    estimate: float
    """Geometric mean of the ratios of times (arm over reference), or mean of the differences (arm minus reference)."""
    low: float
    high: float
    """Ends of its 95% t interval (of the logarithms, for a ratio)."""
    median: float
    median_low: float
    median_high: float
    """Median over the pairs and its exact interval of at least 95%; the ends are NaN for fewer than six pairs."""
    p: float
    """P value of the exact paired permutation test; NaN for fewer than two pairs."""
    detectable: float
    """Smallest effect that this number of pairs would have shown with probability 0.8: a ratio above 1 (its inverse is the
    other side), or the size of a difference. NaN for fewer than two pairs."""
    horizon: float | None = None
    """Times are counted up to this one; None where every run reached its event, and for differences."""

    @property
    def neutral(self) -> float:
        """The value without an effect: 1 for a ratio, 0 for a difference."""
        return 1.0 if self.kind == "ratio" else 0.0


def ratio_of_times(arm: Times, reference: Times) -> Effect:
    """Effect on a time, as a ratio; entry i of both is one pair.

    Where a run did not reach its event, the times of all runs are counted up to the common horizon (`Times.horizon`), which
    pulls the ratio towards 1: the effect is then at least that of `estimate`. The median of the ratios makes no use of the
    horizon (`playground.analysis.statistics.ratio_interval`). Raises ValueError for unequal numbers of runs.
    """
    if len(arm) != len(reference):
        raise ValueError(f"the arms have {len(arm)} and {len(reference)} runs; write one of each for a seed")
    both = Times(
        times=np.concatenate([arm.times, reference.times]), reached=np.concatenate([arm.reached, reference.reached])
    )
    everything = bool(both.reached.all())
    horizon = both.horizon
    logs = np.log(np.maximum(arm.within(horizon), 1e-12) / np.maximum(reference.within(horizon), 1e-12))
    mean, low, high = mean_interval(logs)
    median, median_low, median_high = ratio_interval(arm.open, reference.open)
    return Effect(
        kind="ratio",
        pairs=len(arm),
        estimate=math.exp(mean),
        low=math.exp(low),
        high=math.exp(high),
        median=median,
        median_low=median_low,
        median_high=median_high,
        p=paired_p(logs),
        detectable=math.exp(_detectable(logs)),
        horizon=None if everything else horizon,
    )


def difference_of_scores(arm: NDArray[np.float64], reference: NDArray[np.float64]) -> Effect:
    """Effect on a score, as a difference; entry i of both is one pair. Raises ValueError for unequal numbers of scores."""
    if len(arm) != len(reference):
        raise ValueError(f"the arms have {len(arm)} and {len(reference)} scores; write one of each for a seed")
    differences = np.asarray(arm, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    mean, low, high = mean_interval(differences)
    median, median_low, median_high = median_interval(differences)
    return Effect(
        kind="difference",
        pairs=len(differences),
        estimate=mean,
        low=low,
        high=high,
        median=median,
        median_low=median_low,
        median_high=median_high,
        p=paired_p(differences),
        detectable=_detectable(differences),
    )


def paired_p(values: NDArray[np.float64]) -> float:
    """P value of the paired permutation test that the signs of `values` are random, by their mean (Fisher 1935, section 21).

    All 2^n sign flips are tried for at most 16 values, so that the test is exact: with n = 5 the least p value is .0625, with 8
    .0078. NaN for fewer than two values.

    >>> paired_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    0.03125
    """
    if len(values) < 2:
        return math.nan
    if not values.any():
        return 1.0
    drawn = 2**MOST_EXACT  # scipy tries all flips where there are no more than this
    result = stats.permutation_test(
        (values,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=drawn,
        rng=np.random.default_rng(FLIPS_SEED),
    )
    return float(result.pvalue)


def formed_p(arm: Times, reference: Times) -> float:
    """P value of the exact paired test of the fraction formed (McNemar 1947): pairs in which only one of the two formed.

    >>> def times(reached):
    ...     return Times(times=np.ones(len(reached)), reached=np.array(reached))
    >>> formed_p(times([True] * 8), times([False] * 6 + [True] * 2))
    0.03125
    """
    only_arm = int((arm.reached & ~reference.reached).sum())
    only_reference = int((~arm.reached & reference.reached).sum())
    if only_arm + only_reference == 0:
        return 1.0
    return float(stats.binomtest(only_arm, only_arm + only_reference).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for the number of tests (Holm 1979): below .05 in a family of true nulls with probability .05 at most.

    NaN stays NaN and is not counted as a test.

    >>> holm([0.01, 0.04, 0.03, math.nan])
    [0.03, 0.06, 0.06, nan]
    """
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def _detectable(values: NDArray[np.float64]) -> float:
    """The mean that a t test of as many values with this spread shows with probability POWER (two-sided, at 1 - LEVEL)."""
    if len(values) < 2:
        return math.nan
    degrees = len(values) - 1
    needed = stats.t.ppf((1 + LEVEL) / 2, degrees) + stats.t.ppf(POWER, degrees)
    return float(needed * values.std(ddof=1) / math.sqrt(len(values)))
