"""Matrices as heat maps: a panel for each, on one colour scale. Cells that exceed a threshold carry their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.contrast import DIVERGING, letters_on
from playground.figures.grid import Grid
from playground.figures.head_cells import brief
from playground.figures.style import SCALE, Style
from playground.figures.text import plain
from playground.results import Head

CELL, TALLEST, BAR = 34, 620, 170
"""Pixels: height of a cell, of a map with many rows, and of the colour scale."""
LETTERS, WIDE = 11, 24
"""Size of the numbers, which are smaller with more columns than this in a row of maps."""
MOST_NUMBERS = 16
"""A map with more columns than this shows no numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatMap:
    """One matrix, its first row at the bottom."""

    title: str
    x: Sequence[str]
    """Names of the columns."""
    y: Sequence[str]
    """Names of the rows."""
    values: NDArray[np.float64]
    """`[row, column]`, NaN for a blank cell."""
    told: NDArray[np.bool_]
    """`[row, column]`: True where the cell carries its number."""
    hover: NDArray[np.object_] | None = None
    """`[row, column]`: what the pointer shows in place of names and value."""
    x_title: str = ""
    y_title: str = ""


def maps_figure(
    maps: Sequence[HeatMap],
    *,
    columns: int,
    bar: str,
    signed: bool = False,
    limit: float | None = None,
    style: Style = "screen",
) -> go.Figure:
    """All maps in rows of `columns` panels. `bar` is the title of the colour scale.

    The scale runs from 0 (with `signed` from -limit) to `limit`; None: to the largest absolute value.
    """
    if limit is None:
        limit = max((float(np.nanmax(np.abs(item.values), initial=0)) for item in maps), default=0.0) or 1.0
    tallest = max((len(item.y) for item in maps), default=1)
    grid = Grid([item.title for item in maps], columns, min(CELL * max(tallest, 2), TALLEST))
    for index, item in enumerate(maps):
        said = f"{item.x_title} (upwards: {item.y_title})" if item.y_title not in ("", "layer") else item.x_title
        title = {"text": plain(said), "standoff": 4, "font": {"size": 12}}
        steep = len(item.x) * columns > MOST_NUMBERS and max(map(len, item.x)) > 2
        x = {"tickvals": list(range(len(item.x))), "ticktext": [plain(name) for name in item.x]}
        x |= {"range": [-0.5, len(item.x) - 0.5], "showgrid": False, "tickangle": -90 if steep else 0, "title": title}
        y = {"tickvals": list(range(len(item.y))), "ticktext": [plain(name) for name in item.y]}
        y |= {"range": [-0.5, len(item.y) - 0.5], "showgrid": False}
        grid.add(
            index,
            _traces(item, signed=signed, limit=limit, size=LETTERS if len(item.x) * columns <= WIDE else LETTERS - 2),
            x=x,
            y=y,
        )
    low = -limit if signed else 0.0
    grid.layout["coloraxis"] = {
        "colorscale": [list(stop) for stop in DIVERGING] if signed else SCALE,
        "cmin": low,
        "cmax": limit,
        "colorbar": {"title": {"text": plain(bar)}, "thickness": 12, "outlinewidth": 0, "xpad": 6, "nticks": 5}
        | {"lenmode": "pixels", "len": BAR},
    }
    return grid.figure(style)


def head_map(heads: Sequence[Head], values: NDArray[Any], blank: Any = np.nan) -> tuple[list[str], NDArray[Any]]:
    """Values by head as `[layer, head]`, and the short names of the layers from the bottom; `blank` where there is no head."""
    layers = sorted({head.layer for head in heads}, key=_order)
    width = max((head.index for head in heads), default=0) + 1
    found = np.full((len(layers), width), blank, dtype=np.asarray(values).dtype)
    for head, value in zip(heads, values, strict=True):
        found[layers.index(head.layer), head.index] = value
    return [Head(layer, 0).short.partition(".")[0] for layer in layers], found


def _order(layer: str) -> tuple[bool, int]:
    kind, _, number = layer.partition(".")
    return kind == "future_heads", int(number)


def _traces(item: HeatMap, *, signed: bool, limit: float, size: int) -> list[dict[str, Any]]:
    told = item.told & np.isfinite(item.values) & (len(item.x) <= MOST_NUMBERS)
    values = item.values[told]
    places = np.argwhere(told)
    hover = item.hover if item.hover is not None else _hover(item)
    scale, low = (DIVERGING, -limit) if signed else (SCALE, 0.0)
    cells = {
        "type": "heatmap",
        "z": item.values,
        "x": list(range(len(item.x))),
        "y": list(range(len(item.y))),
        "coloraxis": "coloraxis",
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
        "text": hover,
        "hovertemplate": "%{text}<extra></extra>",
    }
    letters = {
        "type": "scatter",
        "mode": "text",
        "x": places[:, 1],
        "y": places[:, 0],
        "text": [brief(value, signed=bool((values < 0).any())) for value in values],
        "hoverinfo": "skip",
        "textfont": {"size": size, "color": letters_on(values, scale, low, limit).tolist()},
    }
    return [cells, letters]


def _hover(item: HeatMap) -> NDArray[np.object_]:
    return np.array(
        [
            [
                f"<b>{plain(item.title)}</b><br>{plain(item.y_title)} {plain(row)}<br>{plain(item.x_title)} "
                f"{plain(column)}<br>{item.values[i, j]:.3f}"
                for j, column in enumerate(item.x)
            ]
            for i, row in enumerate(item.y)
        ],
        dtype=object,
    ).reshape(len(item.y), len(item.x))
