"""One number for every attention head as a heat-map: layers from bottom to top, heads side by side.

All panels of a figure share their rows: trunk layers from the bottom, future heads by their offset above them. The row of a
layer that a run does not have is blank. A cell contains a number if the value is above its null band.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.figures.contrast import DIVERGING, letters_on
from playground.figures.style import SCALE
from playground.figures.text import plain
from playground.results import AttentionScores, Head, heads_of, score_title

LETTERS = 11
MOST_NUMBERS = 16
"""With more heads per layer than this there is no room for numbers in the cells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Content of a panel. Arrays are `[layer, head]`, with a row for each of `layers`."""

    layers: tuple[str, ...]
    values: NDArray[np.float64]
    """NaN where there is no head."""
    told: NDArray[np.bool_]
    """True where the cell contains a number."""
    hover: NDArray[np.object_]
    """Hover text of each cell."""
    signed: bool = False
    """True for differences: values from -1 to 1, with 0 in the middle of the colour scale."""


def layer_order(layers: Iterable[str]) -> tuple[str, ...]:
    """Each layer once: trunk from the first, then future heads by offset."""

    def place(layer: str) -> tuple[bool, int]:
        kind, _, number = layer.partition(".")
        return kind == "future_heads", int(number)

    return tuple(sorted(set(layers), key=place))


def score_cells(scores: AttentionScores, name: str, layers: Sequence[str], step: int) -> Cells:
    """The scores of one run at one step in the rows `layers`; with numbers where a head exceeds its null band."""
    values, null = scores.score(name), scores.null(name)
    heads = np.array([head.title for head in heads_of(scores.layers, values.shape[1])], dtype=object)
    hover = np.array(
        [
            f"<b>{plain(head)}</b><br>{plain(score_title(name))} {value:.3f}<br>null band (99%) {band:.3f}, ideal "
            f"{scores.ideal:.1f}<br>step {step:,}"
            for head, value, band in zip(heads, values.ravel(), null.ravel(), strict=True)
        ],
        dtype=object,
    ).reshape(values.shape)
    rows = [scores.layers.index(layer) if layer in scores.layers else None for layer in layers]
    return Cells(
        layers=tuple(layers),
        values=spread(values, rows, np.nan),
        told=spread(values > null, rows, False),
        hover=spread(hover, rows, ""),
    )


def spread(values: NDArray[Any], rows: Sequence[int | None], blank: Any) -> NDArray[Any]:
    """The rows of `values` at the indices `rows`; None gives a row filled with `blank`."""
    found = np.full((len(rows), *values.shape[1:]), blank, dtype=values.dtype)
    for place, row in enumerate(rows):
        if row is not None:
            found[place] = values[row]
    return found


def heat_map(cells: Cells) -> dict[str, Any]:
    """The coloured cells, as a plotly trace."""
    return {
        "type": "heatmap",
        "z": cells.values,
        "coloraxis": "coloraxis2" if cells.signed else "coloraxis",
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
        "text": cells.hover,
        "hovertemplate": "%{text}<extra></extra>",
    }


def letters(cells: Cells) -> dict[str, Any]:
    """The numbers in the cells, as a plotly trace; black or white, whichever has more contrast."""
    places, texts, colors = numbers(cells)
    return {
        "type": "scatter",
        "mode": "text",
        "x": places[:, 1],
        "y": places[:, 0],
        "text": texts,
        "hoverinfo": "skip",
        "textfont": {"size": LETTERS, "color": colors},
        "showlegend": False,
    }


def numbers(cells: Cells) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Places (`[number, 2]`: row, column), texts and colours of the numbers; empty if there is no room for them."""
    told = cells.told & np.isfinite(cells.values) & (cells.values.shape[1] <= MOST_NUMBERS)
    values = cells.values[told]
    scale, low = (DIVERGING, -1.0) if cells.signed else (SCALE, 0.0)
    return (
        np.argwhere(told),
        [brief(value, signed=cells.signed) for value in values],
        letters_on(values, scale, low).tolist(),
    )


def brief(value: float, *, signed: bool = False) -> str:
    """A number with two digits and without the leading zero.

    >>> brief(0.934), brief(1.0), brief(-0.25, signed=True), brief(0.25, signed=True)
    ('.93', '1.0', '−.25', '+.25')
    """
    text = f"{abs(value):.2f}"
    text = text[1:] if text.startswith("0") else text[:3]
    sign = "−" if value < 0 else "+" if signed else ""
    return sign + text


def short_layer(layer: str) -> str:
    """Name of a layer on an axis: `T0` is trunk 0, `F1` is future head 1."""
    return plain(Head(layer, 0).short.partition(".")[0])
