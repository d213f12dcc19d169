"""Acceptance rate of each offset's drafts: bars for conditional, diamonds for marginal rates, one panel per run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from playground.figures.head_colors import INK, offset_color
from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, Style, apply_style, see_through
from playground.figures.wording import WIDTH, wrapped
from playground.results import Acceptance, MarginalAcceptance

PLOT, LINE, BESIDE = 210, 18, 92
"""Pixels: height of the axes, of a line of a title, and of legend and axis title together."""
Z95 = 1.959964
CONDITIONAL = "conditional: drafts after accepted ones"
MARGINAL = "marginal: at every position"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunAcceptance:
    """Acceptance rates of one run."""

    title: str
    drafts: str
    """Description of the drafts, shown as the second line of the title."""
    acceptance: Acceptance
    marginal: MarginalAcceptance | None = None
    """None if it was not measured."""
    d_vocab: int
    """Size of the vocabulary: a uniform guess is right with probability 1 / d_vocab."""


def acceptance_figure(shown: Sequence[RunAcceptance], *, style: Style = "screen") -> go.Figure:
    """A panel for each run: bars are conditional acceptance rates with 95% intervals, diamonds marginal ones."""
    traces: list[dict[str, Any]] = []
    layout: Layout = {"annotations": []}
    width = 2 * WIDTH if len(shown) == 1 else WIDTH
    titles = [f"{wrapped(run.title, width)}<br>{wrapped(run.drafts, width)}" for run in shown]
    above = LINE * max((1 + title.count("<br>") for title in titles), default=1)
    for index, run in enumerate(shown):
        at = suffix(index)
        layout |= place(index, 0, index, (1, len(shown)), (0.0, 0.06))
        offsets = list(run.acceptance.offsets)
        layout[f"xaxis{at}"] |= {
            "title": {"text": "offset k that drafts"},
            "tickvals": offsets,
            "range": [1.4, max(3, *offsets) + 0.6],
        }
        layout[f"yaxis{at}"] |= {"range": [0, 1.12], "tickvals": [0, 0.25, 0.5, 0.75, 1]}
        layout[f"yaxis{at}"] |= (
            {"title": {"text": "acceptance<br>(share of drafts)"}} if index == 0 else {"showticklabels": False}
        )
        layout["annotations"].append(panel_title(index, titles[index]))
        axes = {"xaxis": f"x{at}", "yaxis": f"y{at}"}
        traces.append(_bars(run) | axes)
        traces.append(_level(1.0, "ideal: 1", "dash") | axes)
        traces.append(_level(1 / run.d_vocab, f"uniform guess: 1/{run.d_vocab}", "dot") | axes)
        if run.marginal is not None:
            traces.append(_marks(run.marginal, offsets) | axes)
    traces.insert(0, _key())
    _name_once(traces)
    layout |= {
        "height": PLOT + above + BESIDE,
        "bargap": 0.35,
        "margin": {"t": above + 44, "r": 16, "b": BESIDE - 44},
        "legend": {"orientation": "h", "y": 1 + (above + 4) / PLOT, "yanchor": "bottom", "x": 0},
    }
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def interval(accepted: int, tried: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927), assuming independent trials; (nan, nan) without trials.

    >>> [round(edge, 2) for edge in interval(8, 10)]
    [0.49, 0.94]
    """
    if not tried:
        return math.nan, math.nan
    share, square = accepted / tried, Z95**2 / tried
    middle = (share + square / 2) / (1 + square)
    half = Z95 / (1 + square) * math.sqrt(share * (1 - share) / tried + square / (4 * tried))
    return max(0.0, middle - half), min(1.0, middle + half)


def _bars(run: RunAcceptance) -> dict[str, Any]:
    found = run.acceptance
    edges = np.array(
        [interval(int(accepted), int(tried)) for accepted, tried in zip(found.accepted, found.tried, strict=True)]
    ).reshape(-1, 2)
    rate = found.conditional
    colors = [offset_color(offset) for offset in found.offsets]
    return {
        "type": "bar",
        "name": CONDITIONAL,
        "legendgroup": "bars",
        "x": list(found.offsets),
        "y": rate,
        "marker": {"color": [see_through(color, 0.75) for color in colors], "line": {"color": colors, "width": 1.5}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": edges[:, 1] - rate,
            "arrayminus": rate - edges[:, 0],
            "color": INK,
            "thickness": 1.4,
            "width": 5,
        },
        "customdata": np.stack([found.accepted, found.tried, edges[:, 0], edges[:, 1]], axis=1),
        "hovertemplate": (
            "<b>offset %{x}</b><br>conditional acceptance %{y:.3f}<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} tried"
            "<br>95% %{customdata[2]:.2f} to %{customdata[3]:.2f}<extra></extra>"
        ),
    }


def _key() -> dict[str, Any]:
    """Legend entry for the bars, in a neutral colour instead of an offset's."""
    return {
        "type": "bar",
        "name": CONDITIONAL,
        "legendgroup": "bars",
        "x": [None],
        "y": [None],
        "marker": {"color": GREY},
    }


def _marks(marginal: MarginalAcceptance, offsets: Sequence[int]) -> dict[str, Any]:
    chosen = [index for index, offset in enumerate(marginal.offsets) if offset in offsets]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": MARGINAL,
        "legendgroup": "marginal",
        "x": [marginal.offsets[index] for index in chosen],
        "y": marginal.rate[chosen],
        "marker": {"symbol": "diamond", "size": 11, "color": "white", "line": {"color": INK, "width": 2}},
        "customdata": np.full(len(chosen), marginal.count),
        "hovertemplate": (
            "<b>offset %{x}</b><br>marginal acceptance %{y:.3f}<br>over %{customdata:,} positions<extra></extra>"
        ),
    }


def _level(value: float, name: str, dash: str) -> dict[str, Any]:
    """A horizontal line across all offsets, named in the legend: next to short bars there is no room for its name."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 100],
        "y": [value, value],
        "name": name,
        "legendgroup": name,
        "line": {"color": GREY, "width": 1.4, "dash": dash},
        "hovertemplate": f"{name}<extra></extra>",
    }


def _name_once(traces: Sequence[dict[str, Any]]) -> None:
    named: set[str] = set()
    for trace in traces:
        trace["showlegend"] = trace["legendgroup"] not in named
        named.add(trace["legendgroup"])
