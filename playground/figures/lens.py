"""Heat-map of the predictions of every layer at every position of a row (the logit lens, nostalgebraist 2020).

Layers run from bottom to top. Below each column is the token at that position, above it the token that really comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.contrast import BRIGHT, DARK, letters_on
from playground.figures.panels import Layout, suffix
from playground.figures.style import GREY, SCALE, Style, apply_style
from playground.figures.text import plain
from playground.text import visible

ColorBy = Literal["top", "true", "right"]
COLOR_TITLES: dict[ColorBy, str] = {
    "top": "probability of the likeliest token",
    "true": "probability of the token that comes",
    "right": "whether the likeliest token is the one that comes",
}
CELL, LETTER, WIDTH = 32, 6.6, 640
"""Pixels: height of a cell, width of a letter along an axis, and the approximate width of the cells on a page."""
MOST_LETTERED, LINE = 40, 5
"""Most positions of a window whose cells contain words; letters per line of a cell (two lines)."""
LONGEST_LABEL = 10
TITLE, BAR = 44, 62
"""Pixels: the two lines above a panel, and the colour bar at the bottom."""
MARKED, RIGHT = "#e8590c", "#0f9d74"
RIGHT_OR_WRONG = ((0.0, GREY), (0.5, GREY), (0.5, RIGHT), (1.0, RIGHT))
_BLANK = "\u200b"
"""A character without width."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Predictions of the layers of one model along one row, for one offset and one way of reading. T pos, L layers, R ranks."""

    title: str
    """Up to two lines, with plotly's markup."""
    offset: int
    layers: tuple[str, ...]
    """Names of the rows of the map, the lowest first."""
    tokens: tuple[str, ...]
    """`[T]`: the tokens of the row, as readable strings."""
    predicted: tuple[tuple[tuple[str, ...], ...], ...]
    """`[L][T][R]`: the likeliest tokens, likeliest first."""
    probability: NDArray[np.float64]
    """`[L, T, R]`: probabilities of the tokens in `predicted`."""
    true: tuple[str | None, ...]
    """`[T]`: the token that really comes at this offset; None after the end of the row."""
    true_probability: NDArray[np.float64]
    """`[L, T]`: probability of the token that really comes, NaN after the end of the row."""
    right: NDArray[np.bool_]
    """`[L, T]`: True where the likeliest token is the one that comes."""
    scored: NDArray[np.bool_]
    """`[T]`: True where the task scores the prediction made at this position."""


def lens_figure(
    readings: Sequence[Reading],
    *,
    color_by: ColorBy = "top",
    window: tuple[int, int] | None = None,
    style: Style = "screen",
) -> go.Figure:
    """A map for each reading, one below the other with aligned positions; `window` is the range of positions shown.

    The likeliest token is written into a cell if there is room, a dot marks a right prediction, and a triangle above a column
    marks what the task scores.
    """
    start, stop = window or (0, max((len(reading.tokens) for reading in readings), default=0))
    label = _label_height(readings, start, stop)
    heights = [CELL * (len(reading.layers) + 0.4) for reading in readings]
    gap = 2 * label + TITLE + 12
    total = max(1.0, sum(heights) + gap * (len(readings) - 1))
    margin = {"t": label + TITLE + 34, "b": label + BAR, "l": 84, "r": 12}
    layout: Layout = {"annotations": [], "uirevision": "keep", "margin": margin}
    layout |= {"height": total + margin["t"] + margin["b"], "coloraxis": _color_axis(color_by, -(label + 10) / total)}
    layout |= {"legend": {"y": 1 + (label + TITLE + 2) / total}}
    data: list[dict[str, Any]] = []
    top = total
    for index, (reading, height) in enumerate(zip(readings, heights, strict=True)):
        shares = [round(max(0.0, top - height) / total, 6), round(top / total, 6)]
        _axes(layout, reading, index, shares, (start, stop))
        layout["annotations"] += [_title(reading, index, label), *_headers(reading, index, label)]
        data += _traces(reading, index, color_by, (start, min(stop, len(reading.tokens))))
        top -= height + gap
    return apply_style(go.Figure({"data": data, "layout": layout}), style)


def readable(token: str) -> str:
    """A token with visible white space.

    >>> readable(" Lily"), readable("\\n")
    ('␣Lily', '⏎')
    """
    return visible(token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥"))


def cropped(text: str, letters: int) -> str:
    """The text cut to at most `letters` letters.

    >>> cropped("<end>", 5), cropped("grandfather", 5)
    ('<end>', 'gran…')
    """
    return text if len(text) <= letters else text[: letters - 1] + "…"


def two_lines(text: str) -> str:
    """A token as it is written into a cell, in up to two lines.

    >>> two_lines("beach"), two_lines("packed"), two_lines("grandfather")
    ('beach', 'pac<br>ked', 'grand<br>fath…')
    """
    return "<br>".join(map(plain, _halves(text)))


def _halves(text: str) -> list[str]:
    """The lines of a cell as plain text."""
    text = cropped(text, 2 * LINE)
    half = -(-len(text) // 2)
    return [text] if len(text) <= LINE else [text[:half], text[half:]]


def _traces(reading: Reading, index: int, color_by: ColorBy, window: tuple[int, int]) -> list[dict[str, Any]]:
    """The map, its texts, the dots for right predictions, and the triangles above scored positions."""
    start, stop = window
    at, above = suffix(2 * index), suffix(2 * index + 1)
    axes = {"xaxis": f"x{at}", "yaxis": f"y{suffix(index)}"}
    written = 0 < stop - start <= MOST_LETTERED
    layers, positions = np.nonzero(reading.right[:, start:stop])
    corner = (0.36, 0.32) if written else (0.0, 0.0)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": start + positions + corner[0],
        "y": layers - corner[1],
        "name": "right",
        "legendgroup": "right",
        "showlegend": index == 0,
        "hoverinfo": "skip",
        "marker": {"size": 6 if written else 4, "color": "white", "line": {"color": "black", "width": 1}},
    } | axes
    scored = start + np.nonzero(reading.scored[start:stop])[0]
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": scored if len(scored) else [None],
        "xaxis": f"x{above}",
        "y": np.full(max(1, len(scored)), len(reading.layers) - 0.3),
        "yaxis": axes["yaxis"],
        "hoverinfo": "skip",
        "name": "scored by the task",
        "legendgroup": "scored",
        "showlegend": index == 0 and len(scored) > 0,
        "marker": {"symbol": "triangle-down", "size": 9 if written else 5, "color": MARKED},
    }
    values = _values(reading, color_by)[:, start:stop]
    letters = _letters(reading, values, color_by, window) if written else []
    return [_map(reading, values, window) | axes, *(trace | axes for trace in letters), dots, marks]


def _values(reading: Reading, color_by: ColorBy) -> NDArray[np.float64]:
    """`[L, T]`: the values shown as colours, from 0 to 1; NaN where there is no token to compare with."""
    if color_by == "top":
        return reading.probability[:, :, 0]
    if color_by == "true":
        return reading.true_probability
    return np.where(np.isnan(reading.true_probability), np.nan, reading.right.astype(float))


def _map(reading: Reading, values: NDArray[np.float64], window: tuple[int, int]) -> dict[str, Any]:
    start, stop = window
    layers = range(len(reading.layers))
    return {
        "type": "heatmap",
        "z": values,
        "x": list(range(start, stop)),
        "y": list(layers),
        "coloraxis": "coloraxis",
        "xgap": 1 if stop - start < 100 else 0,
        "ygap": 2,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hovertext": [[_hover(reading, layer, position) for position in range(start, stop)] for layer in layers],
    }


def _letters(
    reading: Reading, values: NDArray[np.float64], color_by: ColorBy, window: tuple[int, int]
) -> list[dict[str, Any]]:
    """The likeliest token in every cell: one transparent map for each text colour.

    Plotly chooses one letter size per heat-map, so that its longest text fits its cell. For equal sizes in all maps, each map
    contains one cell with a longest and highest text, made of characters without width.
    """
    start, stop = window
    rows = [[ranks[0].lstrip("␣") or ranks[0] for ranks in row[start:stop]] for row in reading.predicted]
    words = np.array([[two_lines(word) for word in row] for row in rows], dtype=object)
    lines = [_halves(word) for row in rows for word in row]
    largest = "<br>".join([_BLANK * max(len(line) for word in lines for line in word)] * max(map(len, lines)))
    colors = np.where(np.isnan(values), GREY, DARK if color_by == "right" else letters_on(values))
    drawn: list[dict[str, Any]] = []
    for color in (BRIGHT, DARK, GREY):
        others = np.flatnonzero(colors != color)
        text = np.where(colors == color, words, "")
        text.flat[others[:1]] = largest
        drawn.append(
            {
                "type": "heatmap",
                "z": np.zeros(values.shape),
                "x": list(range(start, stop)),
                "y": list(range(len(values))),
                "text": text,
                "texttemplate": "%{text}",
                "textfont": {"color": color},
                "showscale": False,
                "colorscale": [[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]],
                "hoverinfo": "skip",
                "xgap": 1,
                "ygap": 2,
            }
        )
    return drawn


def _hover(reading: Reading, layer: int, position: int) -> str:
    """Hover text: the likeliest tokens with their probabilities, and the token that comes."""

    def quoted(token: str) -> str:
        return f"'{plain(token)}'"

    ranked = zip(reading.predicted[layer][position], reading.probability[layer, position], strict=True)
    true = reading.true[position]
    lines = [f"<b>{plain(reading.layers[layer])}</b>, at {quoted(reading.tokens[position])} (position {position})"]
    lines += [f"{rank}. {quoted(token)} {probability:.3f}" for rank, (token, probability) in enumerate(ranked, start=1)]
    if true is None:
        lines.append("the row ends before the token that this predicts")
    else:
        lines.append(
            f"comes: {quoted(true)} {reading.true_probability[layer, position]:.3f}, "
            f"so {'right' if reading.right[layer, position] else 'wrong'}"
            + (" (scored by the task)" if reading.scored[position] else "")
        )
    return "<br>".join(lines)


def _axes(layout: Layout, reading: Reading, index: int, shares: list[float], window: tuple[int, int]) -> None:
    """Axes: layers at the side; tokens of the row below; above them the tokens that come, bold where scored."""
    start, stop = window
    at, above, beside = suffix(2 * index), suffix(2 * index + 1), suffix(index)
    positions = list(range(start, min(stop, len(reading.tokens))))
    positions = positions[:: -(-len(positions) * 10 // WIDTH) or 1]
    common = {
        "range": [start - 0.5, stop - 0.5],
        "tickvals": positions,
        "showgrid": False,
        "tickfont": {"size": 11},
        "tickangle": -90 if _is_upright([reading], start, stop) else 0,
        "anchor": f"y{beside}",
        "automargin": False,
    }
    here = [plain(cropped(reading.tokens[position], LONGEST_LABEL)) for position in positions]
    there = [plain(cropped(reading.true[position] or "", LONGEST_LABEL)) for position in positions]
    there = [
        f"<b>{text}</b>" if reading.scored[position] else text for text, position in zip(there, positions, strict=True)
    ]
    layout[f"xaxis{at}"] = common | {"ticktext": here}
    layout[f"xaxis{above}"] = common | {
        "ticktext": there,
        "side": "top",
        "overlaying": f"x{at}",
        "matches": f"x{at}",
    }
    n_layers = len(reading.layers)
    layout[f"yaxis{beside}"] = {
        "domain": shares,
        "anchor": f"x{at}",
        "range": [-0.5, n_layers - 0.1],
        "tickvals": list(range(n_layers)),
        "ticktext": [plain(layer) for layer in reading.layers],
        "tickfont": {"size": 12},
        "showgrid": False,
        "automargin": True,
        "title": {"text": "read after", "font": {"size": 12}},
    }


def _title(reading: Reading, index: int, label: float) -> dict[str, Any]:
    return {
        "text": reading.title,
        "x": 0,
        "xref": f"x{suffix(2 * index)} domain",
        "xanchor": "left",
        "align": "left",
        "y": 1,
        "yref": f"y{suffix(index)} domain",
        "yanchor": "bottom",
        "yshift": label + 2,
        "showarrow": False,
        "font": {"size": 13},
    }


def _headers(reading: Reading, index: int, label: float) -> list[dict[str, Any]]:
    """Labels at the left of the two rows of tokens."""
    beside = {
        "x": 0,
        "xref": f"x{suffix(2 * index)} domain",
        "xanchor": "right",
        "xshift": -8,
        "showarrow": False,
        "yref": f"y{suffix(index)} domain",
        "yanchor": "middle",
        "font": {"size": 11},
        "align": "right",
    }
    comes = "next token" if reading.offset == 1 else f"{reading.offset} ahead"
    return [
        beside | {"text": f"{comes}:", "y": 1, "yshift": label / 2 + 2},
        beside | {"text": "input token:", "y": 0, "yshift": -label / 2 - 2},
    ]


def _labels(readings: Sequence[Reading], start: int, stop: int) -> list[str]:
    return [text or "" for reading in readings for part in (reading.tokens, reading.true) for text in part[start:stop]]


def _is_upright(readings: Sequence[Reading], start: int, stop: int) -> bool:
    """Whether the labels do not fit side by side, even on a narrow page, and must be vertical."""
    longest = max(map(len, _labels(readings, start, stop)), default=0)
    return longest * LETTER + 3 > 0.6 * WIDTH / max(1, stop - start) and longest > 1


def _label_height(readings: Sequence[Reading], start: int, stop: int) -> int:
    longest = max(map(len, _labels(readings, start, stop)), default=0)
    upright = any(_is_upright([reading], start, stop) for reading in readings)
    return 12 + round(LETTER * min(longest, LONGEST_LABEL)) if upright else 26


def _color_axis(color_by: ColorBy, y: float) -> dict[str, Any]:
    """The colour scale, with a bar below the maps."""
    bar: dict[str, Any] = {
        "title": {"text": COLOR_TITLES[color_by], "side": "top", "font": {"size": 12}},
        "thickness": 10,
        "outlinewidth": 0,
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "len": 0.6,
        "y": y,
        "yanchor": "top",
        "tickfont": {"size": 11},
    }
    if color_by == "right":
        bar |= {"tickvals": [0.25, 0.75], "ticktext": ["wrong", "right"]}
        return {"colorscale": RIGHT_OR_WRONG, "cmin": 0, "cmax": 1, "colorbar": bar}
    bar |= {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0", "0.25", "0.5", "0.75", "1"]}
    return {"colorscale": SCALE, "cmin": 0, "cmax": 1, "colorbar": bar}
