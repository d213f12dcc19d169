"""Times to an event of which some are not reached: curves, fraction formed, restricted mean, and tests. Needs no torch.

A time is in any unit (tokens, steps, FLOPs, seconds). A run that ended before its event is right-censored: the event comes
later than the run was seen, and the run is never left out. The estimates are scipy's (`ecdf`, `logrank`, `binomtest`).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from playground.analysis.statistics import LEVEL, mean_interval, median_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Times of one event in several runs."""

    times: NDArray[np.float64]
    """The time of the event, or the time up to which the run was seen without it."""
    reached: NDArray[np.bool_]
    """Whether the event came."""

    def __post_init__(self) -> None:
        if self.times.shape != self.reached.shape or self.times.ndim != 1:
            raise ValueError(
                f"times have the shape {self.times.shape} and reached {self.reached.shape}; write one entry of each for a run"
            )
        if len(self.times) and not (np.isfinite(self.times).all() and (self.times >= 0).all()):
            raise ValueError(
                "a time is negative or not finite; write the time up to which the run was seen, and reached False"
            )

    def __len__(self) -> int:
        return len(self.times)

    @property
    def open(self) -> NDArray[np.float64]:
        """The times, infinite where the event did not come."""
        return np.where(self.reached, self.times, np.inf)

    def within(self, horizon: float) -> NDArray[np.float64]:
        """The times, or `horizon` where the event did not come up to it. Raises ValueError for a run that was seen for less."""
        if (~self.reached & (self.times < horizon)).any():
            raise ValueError(f"a run was seen for less than {horizon:g}; write a horizon of at most {self.horizon:g}")
        return np.minimum(self.times, horizon)

    @property
    def horizon(self) -> float:
        """The time up to which every run is known: the earliest end of a run without the event, or else the latest event."""
        unreached = self.times[~self.reached]
        return float(unreached.min() if len(unreached) else self.times.max()) if len(self.times) else math.nan


def times_of(found: Sequence[float | None], seen: Sequence[float]) -> Times:
    """Times from the time of each run's event (None: not reached) and the time up to which each run was seen.

    >>> times_of([3.0, None], [10.0, 8.0]).times
    array([3., 8.])
    """
    times = [end if time is None else time for time, end in zip(found, seen, strict=True)]
    return Times(
        times=np.array(times, dtype=np.float64), reached=np.array([time is not None for time in found], dtype=bool)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Survival:
    """A Kaplan-Meier curve: the estimated share of runs in which the event has not come, as steps to the right.

    Dimension letters: E event time.
    """

    at: NDArray[np.float64]
    """Times at which the curve falls, ascending `[E]`."""
    share: NDArray[np.float64]
    """Share without the event from that time on `[E]`."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """Ends of the pointwise 95% interval (log-log form; Kalbfleisch and Prentice 2002, section 1.4); NaN where the estimate
    is 0."""
    censored: NDArray[np.float64]
    """Ends of the runs without the event, ascending."""


def kaplan_meier(found: Times) -> Survival:
    """The Kaplan-Meier estimate (Kaplan and Meier 1958). Without runs, or without events, the curve has no steps.

    >>> curve = kaplan_meier(times_of([1.0, 2.0, None, 4.0], [9.0, 9.0, 3.0, 9.0]))
    >>> curve.at, curve.share
    (array([1., 2., 4.]), array([0.75, 0.5 , 0.  ]))
    """
    censored = np.sort(found.times[~found.reached])
    none = np.zeros(0)
    if not found.reached.any():
        return Survival(at=none, share=none, low=none, high=none, censored=censored)
    data = stats.CensoredData(uncensored=found.times[found.reached], right=found.times[~found.reached])
    curve = stats.ecdf(data).sf
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # scipy's remark that the interval is undefined where the estimate is 0
        band = curve.confidence_interval(LEVEL, method="log-log")
    falls = np.isin(curve.quantiles, found.times[found.reached])
    return Survival(
        at=np.asarray(curve.quantiles)[falls],
        share=np.asarray(curve.probabilities)[falls],
        low=np.asarray(band.low.probabilities)[falls],
        high=np.asarray(band.high.probabilities)[falls],
        censored=censored,
    )


def fraction_formed(found: Times) -> tuple[float, float, float]:
    """Share of the runs in which the event came, with its exact interval of at least 95% (Clopper and Pearson 1934).

    >>> [round(value, 3) for value in fraction_formed(times_of([1.0] * 6 + [None] * 2, [9.0] * 8))]
    [0.75, 0.349, 0.968]
    """
    if not len(found):
        return math.nan, math.nan, math.nan
    test = stats.binomtest(int(found.reached.sum()), len(found))
    interval = test.proportion_ci(LEVEL, method="exact")
    return float(found.reached.mean()), float(interval.low), float(interval.high)


def median_time(found: Times) -> tuple[float, float, float]:
    """Median over the runs with its exact interval of at least 95%, infinite where too few runs reached the event.

    For runs that were seen for equally long. The interval needs six runs: it is NaN for fewer.
    """
    return median_interval(found.open)


def restricted_mean(found: Times, horizon: float) -> tuple[float, float, float]:
    """Mean of min(time, horizon) over the runs, with its 95% t interval (Royston and Parmar 2013).

    It needs no event in every run, and no assumption on the times after `horizon`. Raises ValueError for a run that was seen
    for less than `horizon`.
    """
    return mean_interval(found.within(horizon))


def logrank_p(first: Times, second: Times) -> float:
    """P value of the log-rank test (Mantel 1966) that two groups have one distribution of times; NaN without events.

    It treats the runs as independent; for runs paired by seed `paired_p` in playground/analysis/effects.py is the sharper test.
    """
    if not (len(first) and len(second)) or not (first.reached.any() or second.reached.any()):
        return math.nan
    data = [
        stats.CensoredData(uncensored=group.times[group.reached], right=group.times[~group.reached])
        for group in (first, second)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(stats.logrank(data[0], data[1]).pvalue)
