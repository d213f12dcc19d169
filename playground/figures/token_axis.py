"""Training tokens along a horizontal axis, linear or logarithmic, with room for names to the right of the last point."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from playground.figures.panels import Layout

ROOM = 0.17
"""Share of the axis reserved for names."""


@dataclass(frozen=True, kw_only=True)
class TokenAxis:
    """Training tokens along the horizontal axis."""

    log: bool
    first: float
    """The smallest token count above 0."""
    last: float

    def at(self, tokens: Any) -> Any:
        """Coordinates of token counts. A logarithmic axis has no 0: the initial model is drawn half a step left of `first`."""
        return np.maximum(tokens, self.first / 2) if self.log else tokens

    def share(self, place: float) -> float:
        """Position of a place between the first and the last point, from 0 to 1."""
        if self.log:
            low, high = math.log(self.first / 2), math.log(self.last)
            return (math.log(place) - low) / (high - low)
        return place / self.last

    @property
    def layout(self) -> Layout:
        """Range with room for names on the right, and ticks."""
        if not self.log:
            return {"range": [-0.01 * self.last, self.last * (1 + ROOM)], "tickformat": "~s", "nticks": 4}
        low, high = math.log10(self.first / 2), math.log10(self.last)
        decades = [10.0**power for power in range(math.ceil(math.log10(self.first)), math.floor(high) + 1)]
        texts = ["0", *(short_count(tokens) for tokens in decades)]
        return {
            "type": "log",
            "range": [low - 0.02 * (high - low), high + ROOM * (high - low)],
            "tickvals": [self.first / 2, *decades],
            "ticktext": texts,
        }


def short_count(tokens: float) -> str:
    """A token count as a tick label.

    >>> short_count(100_000), short_count(2_500_000), short_count(640)
    ('100k', '2.5M', '640')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.3g}"
