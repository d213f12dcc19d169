"""The attention pattern of one head on one row of tokens."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.style import SCALE, Style, apply_style


def pattern_figure(
    pattern: NDArray[np.floating], tokens: Sequence[str], *, targets: NDArray[np.bool_] | None = None,
    title: str = "", style: Style = "screen",
) -> go.Figure:  # fmt: skip
    """`pattern[query, key]` with the tokens written along both axes; rows sum to 1.

    `targets[query, key]` marks with squares where an ideal induction head looks.
    """
    length = len(tokens)
    visible = np.where(np.tril(np.ones_like(pattern, dtype=bool)), pattern, np.nan)
    figure = go.Figure(
        go.Heatmap(
            z=visible, zmin=0, zmax=1, colorscale=SCALE, hoverongaps=False,
            colorbar={"title": {"text": "attention"}, "thickness": 14, "outlinewidth": 0},
            customdata=_pairs(tokens),
            hovertemplate=(
                "at '%{customdata[0]}' (position %{y})<br>looks at '%{customdata[1]}' (position %{x})<br>"
                "attention %{z:.3f}<extra></extra>"
            ),
        )
    )  # fmt: skip
    if targets is not None and targets.any():
        queries, keys = np.nonzero(targets)
        figure.add_trace(
            go.Scatter(
                x=keys, y=queries, mode="markers", name="where an ideal induction head looks", hoverinfo="skip",
                marker={"symbol": "square-open", "size": max(4.0, 420 / length), "color": "#e8590c",
                        "line": {"width": 1.4}},
            )
        )  # fmt: skip
    apply_style(figure, style)
    positions = list(range(length))
    ticks = {"tickvals": positions, "ticktext": list(tokens), "tickfont": {"size": max(7, min(12, 620 // length))}}
    figure.update_xaxes(
        title_text="key: the token looked at", range=[-0.5, length - 0.5], tickangle=-90, showgrid=False, **ticks
    )
    figure.update_yaxes(title_text="query: the token that looks", range=[length - 0.5, -0.5], showgrid=False, **ticks)
    legend = {"x": 1, "xanchor": "right", "y": 1}
    return figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=680, legend=legend, margin={"t": 70}
    )


def _pairs(tokens: Sequence[str]) -> NDArray[np.object_]:
    """`[query, key, 2]` strings for the hover text."""
    length = len(tokens)
    pairs = np.empty((length, length, 2), dtype=object)
    pairs[:, :, 0] = np.array(tokens, dtype=object)[:, None]
    pairs[:, :, 1] = np.array(tokens, dtype=object)[None, :]
    return pairs
