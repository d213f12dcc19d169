"""Formation times of a run as rows above its curves: one row per event, on the same axis of training tokens.

A filled diamond is half of the way from the first to the own final value; the bar runs from t50 to t90, half and nine tenths
of the way from chance to the ideal; an open arrow at the end of the run means that the event was not reached.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from playground.figures.head_colors import INK
from playground.figures.panels import Layout, suffix
from playground.figures.style import see_through
from playground.figures.text import plain
from playground.figures.token_axis import TokenAxis
from playground.results import Event, Formation, Head


def event_rows(formation: Formation, names: Sequence[str], axis: TokenAxis) -> list[dict[str, Any]]:
    """The traces of the rows above the curves."""
    rows = {name: len(names) - 1 - place for place, name in enumerate(names)}
    reached = [event for event in formation.main if event.half is not None]
    missed = [event for event in formation.main if event.half is None]
    traces: list[dict[str, Any]] = []
    for event in formation.main:
        if event.t50 is not None:
            end = event.seen if event.t90 is None else event.t90
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": axis.at(np.array([event.t50, end])),
                    "y": [rows[event.name]] * 2,
                    "line": {"color": see_through(INK, 0.55), "width": 5},
                    "hoverinfo": "skip",
                }
            )
    for symbol, events in (("diamond", reached), ("triangle-right-open", missed)):
        if events:
            traces.append(_marks(events, rows, axis, {"symbol": symbol, "size": 9, "color": INK}))
    return traces


def _marks(events: Sequence[Event], rows: dict[str, int], axis: TokenAxis, marker: dict[str, Any]) -> dict[str, Any]:
    places = axis.at(np.array([event.seen if event.half is None else event.half for event in events], dtype=float))
    # Text to the right of the mark, unless there is no room, or a bar starts there and there is room on the left.
    to_left = [
        axis.share(place) > (0.5 if event.t50 is None else 0.12) for place, event in zip(places, events, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": places,
        "y": [rows[event.name] for event in events],
        "marker": marker,
        "text": [f" {plain(subject(event))} " for event in events],
        "textposition": ["middle left" if left else "middle right" for left in to_left],
        "textfont": {"size": 10},
        "cliponaxis": False,
        "hovertext": [_told(event) for event in events],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def subject(event: Event) -> str:
    """Short name of the event's heads: `T0.1`, `T0.1 → F1.2`; empty for a task's score."""
    parts = event.subject.split(" -> ")
    try:
        return "→".join(Head.parse(part).short for part in parts)
    except ValueError:
        return ""


def _told(event: Event) -> str:
    def when(tokens: int | None) -> str:
        return "not reached" if tokens is None else f"{tokens:,} tokens"

    of = subject(event) or event.subject
    ideal = "no ceiling" if math.isnan(event.ceiling) else f"ideal {event.ceiling:.3g}"
    return (
        f"<b>{plain(event.name)}</b> ({plain(of)})<br>half of its final value {event.final:.3g}: {when(event.half)}<br>"
        f"from chance {event.null:.3g} to {ideal}: t50 {when(event.t50)}, t90 {when(event.t90)}<br>"
        f"run seen to {event.seen:,} tokens"
    )


def event_ticks(layout: Layout, formation: Formation, index: int, axis: TokenAxis) -> None:
    """A vertical line through the curves for each event."""
    at = suffix(2 * index)
    for event in formation.main:
        if event.half is not None:
            x = float(axis.at(event.half))
            layout["shapes"].append(
                {
                    "type": "line",
                    "xref": f"x{at}",
                    "x0": x,
                    "x1": x,
                    "yref": f"y{at} domain",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": see_through(INK, 0.6), "width": 1, "dash": "dot"},
                }
            )


def event_key(left: int, below: int) -> Layout:
    """Meaning of the marks; placed in the corner of the margins `left` and `below`, where it does not move the plot."""
    return {
        "text": "◆ half of its final value&nbsp; ▬ t50 to t90 (or end), chance to ideal&nbsp; ▷ not reached",
        "xref": "paper",
        "x": 0,
        "xshift": 8 - left,
        "xanchor": "left",
        "yref": "paper",
        "y": 0,
        "yshift": 6 - below,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
    }
