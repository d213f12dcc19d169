"""When a score crosses half way, in a run."""

import math
from collections.abc import Sequence


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
