"""Text colour on a coloured cell: black or white, whichever has more contrast (WCAG 2.2, at least 4.5 to 1)."""

from functools import cache
from typing import Any

import numpy as np
import plotly.colors
from numpy.typing import NDArray

from playground.figures.style import SCALE

SHADES = 256
DARK, BRIGHT = "#000000", "#ffffff"
DIVERGING = ((0.0, "#1f6fb0"), (0.25, "#8fbfe0"), (0.5, "#f3f4f5"), (0.75, "#efaf7c"), (1.0, "#c2570a"))
"""Colours of differences: blue below 0, orange above; distinguishable with the common colour blindnesses."""
Scale = str | tuple[tuple[float, str], ...]


def luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance of a colour with components from 0 to 255: 0 for black, 1 for white (WCAG 2.2)."""
    parts = [part / 255 for part in (red, green, blue)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: float, other: float) -> float:
    """Contrast ratio of two luminances: 1 for equal ones, 21 for black on white (WCAG 2.2)."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def letters_on(values: NDArray[Any], scale: Scale = SCALE, low: float = 0.0, high: float = 1.0) -> NDArray[np.object_]:
    """Text colour for each value's cell, in the shape of `values`; `scale` runs from `low` to `high`."""
    share = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    return _letters(scale)[np.round(share * (SHADES - 1)).astype(int)]


@cache
def _letters(scale: Scale) -> NDArray[np.object_]:
    """Text colour for every shade of a scale."""
    points = np.linspace(0, 1, SHADES).tolist()
    stops = scale if isinstance(scale, str) else [list(stop) for stop in scale]
    colors: Any = plotly.colors.sample_colorscale(stops, points, colortype="tuple")
    shades = [luminance(*(255 * part for part in color)) for color in colors]
    bright = [contrast(shade, 1.0) > contrast(shade, 0.0) for shade in shades]
    return np.where(bright, BRIGHT, DARK).astype(object)
