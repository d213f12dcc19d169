"""How many tokens each run needs to get half way from chance to ceiling; a run that does not is drawn, not dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from playground.figures.style import Style, apply_style, color_of
from playground.figures.text import plain


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """When one run's score crossed, if it did."""

    run: str
    label: str
    n_future: int
    seed: int
    variant: int = 0
    tokens: int | None
    """Tokens at the crossing; None: not reached."""
    seen: int
    """Tokens trained so far: what a run that has not crossed is known to need more than."""


def median_tokens(crossings: Sequence[Crossing]) -> float | None:
    """Median over runs, not-reached counting as later than all others; None when the median run has not crossed."""
    ordered = sorted(float("inf") if item.tokens is None else float(item.tokens) for item in crossings)
    middle = float(np.median(ordered)) if ordered else float("inf")
    return middle if np.isfinite(middle) else None


def crossing_figure(crossings: Sequence[Crossing], *, style: Style = "screen") -> go.Figure:
    """A row for each group: a dot for each run that crossed, an open arrow where one has not yet, a bar at the median."""
    groups: dict[str, list[Crossing]] = {}
    for item in crossings:
        groups.setdefault(item.label, []).append(item)
    traces: list[dict[str, Any]] = []
    for label, group in groups.items():
        color = color_of(group[0].n_future, group[0].variant)
        reached = [item for item in group if item.tokens is not None]
        missed = [item for item in group if item.tokens is None]
        traces.append(_dots(reached, label, color, "circle", "crossed after %{x:.4s} tokens"))
        traces.append(_dots(missed, label, color, "triangle-right-open", "not reached within %{x:.4s} tokens"))
        middle = median_tokens(group)
        if middle is not None and len(group) > 1:
            traces.append(
                {
                    "type": "scatter", "x": [middle], "y": [plain(label)], "mode": "markers", "showlegend": False,
                    "marker": {"symbol": "line-ns", "size": 26, "line": {"color": color, "width": 3}},
                    "hovertemplate": f"<b>{plain(label)}</b>: median %{{x:.4s}} tokens<extra></extra>",
                }
            )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "training tokens to half way from chance to ceiling"}, "tickformat": "~s",
                  "rangemode": "tozero"},
        "yaxis": {"categoryorder": "array", "categoryarray": [plain(label) for label in groups][::-1]},
        "height": 110 + 44 * max(1, len(groups)), "showlegend": False, "margin": {"t": 16},
    }  # fmt: skip
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def _dots(items: Sequence[Crossing], label: str, color: str, symbol: str, says: str) -> dict[str, Any]:
    told = np.empty((len(items), 2), dtype=object)  # plotly looks into every item of a list
    for row, item in zip(told, items, strict=True):
        row[:] = item.seed, plain(item.run)
    return {
        "type": "scatter", "x": np.array([item.seen if item.tokens is None else item.tokens for item in items]),
        "y": np.full(len(items), plain(label), dtype=object), "mode": "markers", "showlegend": False,
        "marker": {"color": color, "size": 11, "symbol": symbol, "line": {"color": color, "width": 2}},
        "customdata": told,
        "hovertemplate": f"<b>{plain(label)}</b>, seed %{{customdata[0]}}<br>{says}<br>%{{customdata[1]}}<extra></extra>",
    }  # fmt: skip
