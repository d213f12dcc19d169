"""Tokens that each run needs to get half way from chance to ceiling; runs that did not get there are drawn as arrows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from playground.figures.style import Style, apply_style, color_of
from playground.figures.text import plain


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Crossing time of one run's score, if it crossed."""

    run: str
    label: str
    n_future: int
    seed: int
    variant: int = 0
    tokens: int | None
    """Tokens at the crossing; None: not reached."""
    seen: int
    """Tokens trained so far: a run that has not crossed needs more than this (right-censored)."""
    running: bool = False
    """True if the run is still training and may yet cross."""


def median_tokens(crossings: Sequence[Crossing]) -> float | None:
    """Median over runs; None if runs that have not crossed could still change it."""
    low, high = median_bounds(crossings)
    return low if high is not None and low == high else None


def median_bounds(crossings: Sequence[Crossing]) -> tuple[float, float | None]:
    """Lower and upper bound of the median over runs; the upper one is None if there is no bound.

    A run that has not crossed needs more tokens than it has seen: at best hardly more, at worst it never crosses. Of three
    runs, one crossed at 4 M and two are still at 1 M; the median is then above 1 M:

    >>> runs = [(4, 13), (None, 1), (None, 1)]
    >>> median_bounds([Crossing(run="", label="", n_future=1, seed=0, tokens=t50, seen=seen) for t50, seen in runs])
    (1.0, None)
    """
    low = np.median([item.seen if item.tokens is None else item.tokens for item in crossings]) if crossings else 0.0
    high = np.median([np.inf if item.tokens is None else item.tokens for item in crossings]) if crossings else np.inf
    return float(low), float(high) if np.isfinite(high) else None


def crossing_figure(crossings: Sequence[Crossing], *, style: Style = "screen") -> go.Figure:
    """A row for each group: a dot for each run that crossed, an open arrow for one that has not yet, a bar at the median."""
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
                    "type": "scatter",
                    "x": [middle],
                    "y": [plain(label)],
                    "mode": "markers",
                    "showlegend": False,
                    "marker": {"symbol": "line-ns", "size": 26, "line": {"color": color, "width": 3}},
                    "hovertemplate": f"<b>{plain(label)}</b>: median %{{x:.4s}} tokens<extra></extra>",
                }
            )
    layout = {
        "xaxis": {
            "title": {"text": "training tokens to half way from chance to ceiling"},
            "tickformat": "~s",
            "rangemode": "tozero",
        },
        "yaxis": {"categoryorder": "array", "categoryarray": [plain(label) for label in groups][::-1]},
        "height": 110 + 44 * max(1, len(groups)),
        "showlegend": False,
        "margin": {"t": 16},
    }
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def _dots(items: Sequence[Crossing], label: str, color: str, symbol: str, says: str) -> dict[str, Any]:
    told = np.empty((len(items), 2), dtype=object)  # an array: plotly would inspect every item of a list
    for row, item in zip(told, items, strict=True):
        row[:] = item.seed, plain(item.run)
    return {
        "type": "scatter",
        "x": np.array([item.seen if item.tokens is None else item.tokens for item in items]),
        "y": np.full(len(items), plain(label), dtype=object),
        "mode": "markers",
        "showlegend": False,
        "marker": {"color": color, "size": 11, "symbol": symbol, "line": {"color": color, "width": 2}},
        "customdata": told,
        "hovertemplate": f"<b>{plain(label)}</b>, seed %{{customdata[0]}}<br>{says}<br>%{{customdata[1]}}<extra></extra>",
    }
