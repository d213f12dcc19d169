"""When a score crosses a share of the way to its ceiling, in a run; and medians over runs of which some never cross."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def crossing(
    tokens: Sequence[float], values: Sequence[float], chance: float, ceiling: float, share: float = 0.5,
    *, between: bool = False,
) -> float | None:  # fmt: skip
    """First token count at which `values` is `share` of the way from chance to ceiling, and stays there.

    None when that does not happen within the run (right-censored). Works for scores that fall, too. With `between` the
    crossing is put on the straight line between the last point before it and the first after it.

    >>> crossing([0, 10, 20, 30, 40], [0.0, 0.6, 0.4, 0.7, 0.9], chance=0.0, ceiling=1.0)
    30
    >>> crossing([0, 10, 20, 30, 40], [0.0, 0.6, 0.4, 0.6, 0.9], chance=0.0, ceiling=1.0, between=True)
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
            part = (goal - before[1]) / (value - before[1]) if before is not None and between else 1.0
            first = token if before is None or part == 1.0 else before[0] + part * (token - before[0])
    return first


def median_interval(
    times: NDArray[np.float64], over: NDArray[np.float64] | None = None, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Median and its 95% percentile bootstrap interval; with `over`, of the ratio of the two medians, drawn independently.

    Times that were not reached are infinite and count as later than all others; with them a bound may be infinite. NaN is a
    ratio of two infinite medians, and a bound where one sample has a single time, which shows no spread.

    >>> median_interval(np.array([1.0, 2.0, np.inf]))
    (2.0, 1.0, inf)
    """
    generator = np.random.default_rng(seed)

    def medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
        picks = generator.integers(len(values), size=(draws, len(values)))
        return np.concatenate([[np.median(values)], np.median(values[picks], axis=1)])

    found = medians(times)
    enough = min(len(times), len(times if over is None else over)) > 1
    if over is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = found / medians(over)
    drawn = np.sort(found[1:][~np.isnan(found[1:])])
    if not len(drawn) or not enough:
        return float(found[0]), float("nan"), float("nan")
    low, high = (float(drawn[round(share * (len(drawn) - 1))]) for share in (0.025, 0.975))
    return float(found[0]), low, high
