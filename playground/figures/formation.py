"""Every head's score along training, and above the curves the formation times: a row for each event, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.formation_events import event_key, event_rows, event_ticks
from playground.figures.head_colors import head_color
from playground.figures.panels import Layout, domain, suffix
from playground.figures.style import GREY, Style, apply_style, see_through
from playground.figures.text import plain
from playground.figures.token_axis import TokenAxis
from playground.figures.wording import wrapped
from playground.results import AttentionHistory, Formation, Head, score_title

MOST_NAMED = 4
"""Most heads of a run that are named."""
CURVES, ROW = 300, 22
"""Pixels: height of the curves, and of a row of events."""
MARGIN = {"t": 44, "b": 92, "l": 134, "r": 12}
GAP = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Formed:
    """One run of the figure."""

    title: str
    history: AttentionHistory
    formation: Formation | None = None
    """None: no events are drawn."""


def formation_figure(runs: Sequence[Formed], score: str, *, log: bool = False, style: Style = "screen") -> go.Figure:
    """One panel per run on common axes: all heads on one score, the events above. Every run needs a non-empty history."""
    names = list(dict.fromkeys(event.name for run in runs if run.formation for event in run.formation.main))
    lane = ROW * len(names)
    height = CURVES + (lane + 12 if names else 0)
    every = [tokens for run in runs for tokens in run.history.tokens]
    axis = TokenAxis(
        log=log, first=min((tokens for tokens in every if tokens), default=1), last=max(every, default=1) or 1
    )
    more_lines = max((wrapped(run.title).count("<br>") for run in runs), default=0)
    margin = MARGIN | {"t": MARGIN["t"] + 18 * more_lines}
    layout: Layout = {
        "shapes": [],
        "annotations": [event_key(MARGIN["l"], MARGIN["b"])] if names else [],
        "showlegend": False,
        "margin": margin,
    }
    layout |= {"height": height + margin["t"] + margin["b"]}
    top = CURVES / height
    traces: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        _place(layout, index, len(runs), (top, 1 - lane / height), names, axis)
        layout["annotations"].append(_title(index, run.title, bool(names)))
        _limits(layout, run.history, score, index)
        traces += [trace | _axes(index, lane=False) for trace in _curves(run, score, axis)]
        if run.formation:
            traces += [trace | _axes(index, lane=True) for trace in event_rows(run.formation, names, axis)]
            event_ticks(layout, run.formation, index, axis)
    if runs:
        layout["yaxis"]["title"] = {"text": plain(score_title(score)) + " score"}
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def _curves(run: Formed, score: str, axis: TokenAxis) -> list[dict[str, Any]]:
    """A line for each head; the strongest heads are drawn last, with their names at the end of their lines."""
    last = run.history.results[-1]
    values = np.stack([scores.score(score).ravel() for scores in run.history.results])
    places = axis.at(np.array(run.history.tokens, dtype=float))
    named = list(last.strongest(score)[:MOST_NAMED])
    order = sorted(range(len(last.heads)), key=lambda index: last.heads[index] in named)
    traces = [
        _curve(last.heads[index], (places, values[:, index]), run, score, bold=last.heads[index] in named)
        for index in order
    ]
    heights = apart([float(values[-1, last.heads.index(head)]) for head in named], 0.055)
    ends = {
        "type": "scatter",
        "mode": "text",
        "x": [places[-1]] * len(named),
        "y": heights,
        "hoverinfo": "skip",
        "text": [f" {plain(head.short)}" for head in named],
        "textposition": "middle right",
        "cliponaxis": False,
        "textfont": {"size": 12, "color": [head_color(head) for head in named]},
        "showlegend": False,
    }
    return [*traces, ends]


def _curve(
    head: Head, points: tuple[NDArray[Any], NDArray[Any]], run: Formed, score: str, *, bold: bool
) -> dict[str, Any]:
    history = run.history
    null = float(history.results[-1].null(score).ravel()[history.results[-1].heads.index(head)])
    return {
        "type": "scatter",
        "mode": "lines",
        "x": points[0],
        "y": points[1],
        "name": plain(head.title),
        "showlegend": False,
        "line": {"color": head_color(head), "width": 2.2 if bold else 1.0},
        "opacity": 1.0 if bold else 0.45,
        "customdata": np.stack([history.steps, history.tokens], axis=1),
        "hovertemplate": (
            f"<b>{plain(head.short)}: {plain(head.title)}</b><br>{plain(score_title(score))} %{{y:.3f}}<br>null band (99%) "
            f"{null:.3f}, ideal {history.results[-1].ideal:.0f}<br>"
            f"step %{{customdata[0]:,}}, %{{customdata[1]:,}} tokens<extra></extra>"
        ),
    }


def apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights, moved as little as possible so that they are at least `least` apart; their falling order is kept.

    >>> [round(height, 3) for height in apart([0.9, 0.5, 0.5], 0.1)]
    [0.9, 0.55, 0.45]
    """
    found = list(heights)
    for _ in range(200):
        short = [least - (upper - lower) for upper, lower in zip(found, found[1:], strict=False)]
        if max(short, default=0.0) <= 1e-9:
            break
        worst = short.index(max(short))
        found[worst] += short[worst] / 2
        found[worst + 1] -= short[worst] / 2
    return found


def _limits(layout: Layout, history: AttentionHistory, score: str, index: int) -> None:
    """The null band and the line of the ideal head, named on the first panel."""
    at = suffix(2 * index)
    last = history.results[-1]
    null = float(np.nanmax(last.null(score)))
    where = {"xref": f"x{at} domain", "yref": f"y{at}"}
    layout["shapes"] += [
        {
            "type": "rect",
            "x0": 0,
            "x1": 1,
            "y0": 0,
            "y1": null,
            "fillcolor": see_through(GREY, 0.22),
            "line": {"width": 0},
            "layer": "below",
            **where,
        },
        {
            "type": "line",
            "x0": 0,
            "x1": 1,
            "y0": last.ideal,
            "y1": last.ideal,
            "line": {"color": GREY, "width": 1.3, "dash": "longdash"},
            **where,
        },
    ]
    for text, y, anchor in (("ideal head", last.ideal, "top"), (f"null band, up to {null:.2f}", null, "bottom")):
        layout["annotations"].append(
            {
                "text": text,
                "x": 0.01,
                "xanchor": "left",
                "y": y,
                "yanchor": anchor,
                "showarrow": False,
                "font": {"size": 11, "color": GREY},
                **where,
            }
        )


def _place(
    layout: Layout, index: int, count: int, split: tuple[float, float], names: Sequence[str], axis: TokenAxis
) -> None:
    """Axes of the curves (even numbers) and of the events above them (odd numbers)."""
    at, lane = suffix(2 * index), suffix(2 * index + 1)
    across = domain(index, count, GAP)
    first = index == 0
    layout[f"xaxis{at}"] = {
        "domain": across,
        "anchor": f"y{at}",
        "title": {"text": "training tokens"},
        **axis.layout,
    } | ({} if first else {"matches": "x"})
    layout[f"yaxis{at}"] = {
        "domain": [0, split[0]],
        "anchor": f"x{at}",
        "range": [-0.02, 1.06],
        "showticklabels": first,
    }
    if not names:
        return
    layout[f"xaxis{lane}"] = {
        "domain": across,
        "anchor": f"y{lane}",
        "matches": "x",
        **axis.layout,
        "showticklabels": False,
        "ticks": "",
        "showgrid": False,
        "showline": False,
    }
    layout[f"yaxis{lane}"] = {
        "domain": [split[1], 1],
        "anchor": f"x{lane}",
        "range": [-0.6, len(names) - 0.4],
        "showline": False,
        "tickvals": list(range(len(names))),
        "ticktext": [plain(name) for name in names[::-1]],
        "showticklabels": first,
        "ticks": "",
        "tickfont": {"size": 12},
        "fixedrange": True,
    }


def _title(index: int, text: str, lane: bool) -> dict[str, Any]:
    at = suffix(2 * index + lane)
    return {
        "text": f"<b>{wrapped(text)}</b>",
        "x": 0.5,
        "xref": f"x{at} domain",
        "xanchor": "center",
        "y": 1,
        "yref": f"y{at} domain",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13},
    }


def _axes(index: int, *, lane: bool) -> dict[str, str]:
    at = suffix(2 * index + lane)
    return {"xaxis": f"x{at}", "yaxis": f"y{at}"}
