"""The attention pattern of one head on one row of tokens."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.style import SCALE, Style, apply_style
from playground.figures.text import plain

MOST_LABELS = 32
"""Most tokens named along an axis on a narrow page; with more, every second or third is named."""
ORDINALS = {2: "second", 3: "third"}
CELL = 10
"""Least size of a cell in pixels."""
FRAME, RIM = "#ff9e2c", "#10151a"


def pattern_figure(
    pattern: NDArray[np.floating],
    tokens: Sequence[str],
    *,
    targets: NDArray[np.bool_] | None = None,
    title: str = "",
    style: Style = "screen",
) -> go.Figure:
    """`pattern[query, key]` with the tokens along both axes; rows sum to 1.

    `title` may contain plotly's markup. `targets[query, key]` marks with frames where an ideal induction head attends.
    """
    length = len(tokens)
    visible = np.where(np.tril(np.ones_like(pattern, dtype=bool)), pattern, np.nan)
    figure = go.Figure(
        go.Heatmap(
            z=visible,
            zmin=0,
            zmax=1,
            colorscale=SCALE,
            hoverongaps=False,
            showlegend=False,
            colorbar={"title": {"text": "attention"}, "thickness": 12, "outlinewidth": 0, "tickvals": [0, 0.5, 1]},
            customdata=_pairs(tokens),
            hovertemplate=(
                "query '%{customdata[0]}' (position %{customdata[2]})<br>attends to '%{customdata[1]}' (position "
                "%{customdata[3]})<br>attention %{z:.3f}<extra></extra>"
            ),
        )
    )
    if targets is not None and targets.any():
        _frames(figure, targets, length)
    apply_style(figure, style)
    every = -(-length // MOST_LABELS)
    positions = list(range(0, length, every))
    ticks = {
        "tickvals": positions,
        "ticktext": [plain(tokens[position]) for position in positions],
        "showgrid": False,
        "tickfont": {"size": 8 if length > MOST_LABELS // 2 else 11},
    }
    key = "key: the attended token" + (f" (every {ORDINALS.get(every, f'{every}th')} is named)" if every > 1 else "")
    figure.update_xaxes(title_text=key, range=[-0.5, length - 0.5], tickangle=-90, **ticks)
    figure.update_yaxes(title_text="query: the attending token", range=[length - 0.5, -0.5], **ticks)
    return figure.update_layout(
        title={
            "text": title,
            "font": {"size": 13},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 8, "t": 12},
        },
        height=max(560, CELL * length + 190),
        margin={"t": 100, "l": 60, "r": 8},
        legend={"x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "font": {"size": 12}},
    )


def _frames(figure: go.Figure, targets: NDArray[np.bool_], length: int) -> None:
    """A bright frame with a dark border around each target cell: visible on every colour of the scale."""
    queries, keys = np.nonzero(targets)
    across = np.array([-0.5, 0.5, 0.5, -0.5, -0.5, np.nan])
    down = np.array([-0.5, -0.5, 0.5, 0.5, -0.5, np.nan])
    rim = 3.0 if length <= MOST_LABELS else 2.2
    for color, width, named in ((RIM, rim, False), (FRAME, 0.5 * rim, True)):
        figure.add_trace(
            go.Scatter(
                x=(keys[:, None] + across).ravel(),
                y=(queries[:, None] + down).ravel(),
                mode="lines",
                hoverinfo="skip",
                name="where an ideal induction head attends",
                showlegend=named,
                line={"color": color, "width": width},
            )
        )


def _pairs(tokens: Sequence[str]) -> NDArray[np.object_]:
    """`[query, key, 4]` for the hover text: query token, key token, and their positions."""
    length, texts = len(tokens), np.array([plain(token) for token in tokens], dtype=object)
    pairs = np.empty((length, length, 4), dtype=object)
    pairs[:, :, 2], pairs[:, :, 3] = np.indices((length, length))
    pairs[:, :, 0] = texts[:, None]
    pairs[:, :, 1] = texts[None, :]
    return pairs
