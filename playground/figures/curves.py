"""Quantities along training, one line per run: thin lines for seeds, a bold mean, a band for its interval.

Runs that differ only in the seed form a group and share colour, dash and legend entry, which gives the number of seeds. The
mean is drawn where every seed has a value (means.py). If a seed ended early, its line ends in a cross, and from there on the
mean is a thinner line over the remaining seeds. The band is the pointwise 95% t interval of the mean over seeds (aggregate.py);
one seed has none. Of more than `MOST_LINES` seeds that many lines are drawn, spread evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.aggregate import mean_and_band
from playground.figures.means import MOST_POINTS, Curve, MeanPart, X, mean_parts
from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, Style, apply_style, color_of, dash_of, see_through
from playground.figures.text import plain

MOST_LINES = 50
"""Most thin lines of a group in a panel. Means and bands are over all of its seeds."""
MOST_APART = 4
"""Most traces of single runs in a group; more runs are combined in one trace, which names no run in its hover text."""
MOST_NAMED = 10
"""Most seeds named in a hover text."""
X_TITLES = {"tokens": "training tokens seen", "step": "training step"}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A horizontal line with a name: chance, ceiling, null band."""

    name: str
    value: float
    dash: str = "dot"
    side: Literal["left", "right"] = "right"
    """Side of its name: the end at which there are no curves."""


def curves_figure(
    curves: Sequence[Curve],
    *,
    y_title: str,
    x: X = "tokens",
    references: Sequence[Reference] = (),
    y_range: tuple[float, float] | None = None,
    height: int = 340,
    style: Style = "screen",
) -> go.Figure:
    """All curves, one panel for each panel title, side by side with a common vertical axis."""
    panels = list(dict.fromkeys(curve.panel for curve in curves)) or [""]
    columns = min(4, len(panels))
    shape = (-(-len(panels) // columns), columns)
    traces: list[dict[str, Any]] = []
    layout: Layout = {"shapes": [], "annotations": []}
    for index, panel in enumerate(panels):
        row, col = divmod(index, columns)
        layout |= place(index, row, col, shape, (0.22 / shape[0], 0.04))
        at = suffix(index)
        nticks = 7 if columns < 3 else 4
        layout[f"xaxis{at}"] |= {"title": {"text": X_TITLES[x]}, "tickformat": "~s", "nticks": nticks}
        layout[f"yaxis{at}"] |= {"title": {"text": y_title}} if col == 0 else {"showticklabels": False}
        layout[f"yaxis{at}"] |= {"range": y_range} if y_range else {}
        layout[f"yaxis{at}"] |= {"matches": "y"} if index else {}
        layout["annotations"] += [panel_title(index, plain(panel))] if panel else []
        for reference in references:
            _draw(layout, reference, index, y_range)
        traces += _panel_traces(curves, panel, x, y_title, {"xaxis": f"x{at}", "yaxis": f"y{at}"})
    _name_once(traces)
    top = 60 if any(panels) else 36
    above = 30 if any(panels) else 6
    layout |= {"legend": {"y": 1.0 + above / max(1, height - top - 48)}, "height": height * shape[0]}
    layout |= {"margin": {"t": top}, "uirevision": "keep"}
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """A vertical range that contains all values, with a margin of `pad` of its height."""
    low, high = min(values), max(values)
    room = pad * (high - low) or pad
    return low - room, high + room


def drawn(curves: Sequence[Curve]) -> list[Curve]:
    """The curves whose lines are drawn: all, or `MOST_LINES` of them, spread evenly over the seeds."""
    if len(curves) <= MOST_LINES:
        return list(curves)
    ordered = sorted(curves, key=lambda curve: curve.seed)
    return [ordered[i * (len(ordered) - 1) // (MOST_LINES - 1)] for i in range(MOST_LINES)]


def _panel_traces(
    curves: Sequence[Curve], panel: str, x: X, y_title: str, axes: dict[str, str]
) -> list[dict[str, Any]]:
    """The traces of one panel, group by group."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.panel == panel:
            groups.setdefault(curve.label, []).append(curve)
    quantity = y_title.replace("<br>", " ")
    return [trace | axes for group in groups.values() for trace in _group_traces(group, x, quantity)]


def _name_once(traces: Sequence[dict[str, Any]]) -> None:
    """One legend entry for each group: the widest line of its first panel."""
    chosen: dict[str, dict[str, Any]] = {}
    for trace in traces:
        trace["showlegend"] = False
        best = chosen.setdefault(trace["legendgroup"], trace)
        if trace["xaxis"] == best["xaxis"] and trace["line"]["width"] >= best["line"]["width"]:
            chosen[trace["legendgroup"]] = trace
    for trace in chosen.values():
        trace["showlegend"] = True


def _group_traces(group: Sequence[Curve], x: X, quantity: str) -> list[dict[str, Any]]:
    """Ends, seeds outside the mean, seeds in it, bands, means: later traces are drawn on top."""
    counted = [curve for curve in group if curve.in_mean]
    others = [curve for curve in group if not curve.in_mean] if counted else []
    counted = counted or list(group)
    alone = len(counted) == 1
    thin, lines = drawn(others), drawn(counted)
    ended = [curve for curve in thin + lines if curve.ended and curve.last_step >= 0]
    traces = [_ends(few, x, quantity) for few in _apart(ended)]
    traces += [_seed_lines(few, x, quantity) for few in _apart(thin)]
    traces.append(_seed_lines(lines, x, quantity, bold=alone))
    for part in [] if alone else mean_parts(counted, x):
        traces += _mean_lines(part, counted, quantity)
    label = counted[0].label
    return [trace | {"type": "scatter", "name": plain(_told(label, counted)), "legendgroup": label} for trace in traces]


def _apart(curves: Sequence[Curve]) -> list[Sequence[Curve]]:
    """The curves that share a trace: each its own if they are few, to be named; all in one if many, which draws faster."""
    return [[curve] for curve in curves] if len(curves) <= MOST_APART else [curves]


def _told(label: str, counted: Sequence[Curve]) -> str:
    """Text of the legend: `n = 2, layers (4 seeds, 1 ended early)`."""
    ended = sum(bool(curve.ended) for curve in counted)
    return f"{label} ({seeds_text(len(counted))}{f', {ended} ended early' if ended else ''})"


def seeds_text(count: int) -> str:
    """`1 seed`, `4 seeds`."""
    return f"{count} seed{'' if count == 1 else 's'}"


def _seed_lines(curves: Sequence[Curve], x: X, quantity: str, *, bold: bool = False) -> dict[str, Any]:
    """Lines of a group's runs as one trace with gaps between them; a single run is named in the hover text.

    One trace for each of fifty runs would take a browser half as long again.
    """
    numbers: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float64]] = []
    for curve in curves:
        every = -(-len(curve.steps) // MOST_POINTS) or 1
        keep = np.arange(len(curve.steps))[(len(curve.steps) - 1) % every :: every]
        closed = np.append(keep, keep[-1:])  # the last point again, with value NaN: the gap
        seeds = np.full(len(closed), curve.seed)
        numbers.append(np.stack([curve.at(x)[closed], curve.steps[closed], curve.tokens[closed], seeds], axis=1))
        values.append(np.append(curve.values[keep], np.full(len(closed) - len(keep), np.nan)))
    table, first = np.concatenate(numbers)[:-1], curves[0]
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    seed, run = (first.seed, f"<br>{plain(first.run)}") if len(curves) == 1 else ("%{customdata[2]}", "")
    return {
        "mode": "lines",
        "x": table[:, 0],
        "y": np.concatenate(values)[:-1],
        "line": {"color": color, "width": 2.2 if bold else 1.0, "dash": dash},
        "opacity": 1.0 if bold else 0.4,
        "customdata": table[:, 1:],
        "hovertemplate": (
            f"<b>n = {first.n_future}, {plain(first.control)}, seed {seed}</b>{' (1 seed, no interval)' if bold else ''}<br>"
            f"{quantity} %{{y:.4g}}<br>"
            f"step %{{customdata[0]:,}}, %{{customdata[1]:.3s}} tokens{run}<extra></extra>"
        ),
    }


def _ends(curves: Sequence[Curve], x: X, quantity: str) -> dict[str, Any]:
    """Crosses at the last values of runs that ended early; a single run is named in the hover text."""
    first, last = curves[0], [(curve, curve.measured[-1]) for curve in curves]
    numbers = np.array([[curve.seed, curve.steps[at], curve.tokens[at]] for curve, at in last])
    seed, why, where, run = "%{customdata[0]}", "ended early", "step %{customdata[1]:,}, %{customdata[2]:,} tokens", ""
    if len(curves) == 1:
        seed, why, run = str(first.seed), plain(first.ended), f"<br>{plain(first.run)}"
        where = f"step {numbers[0, 1]:,}, {numbers[0, 2]:,} tokens"
    return {
        "mode": "markers",
        "x": np.array([curve.at(x)[at] for curve, at in last]),
        "y": np.array([curve.values[at] for curve, at in last]),
        "line": {"width": 0},
        "customdata": numbers,
        "marker": {"symbol": "x", "size": 8, "color": color_of(first.n_future, first.variant)},
        "hovertemplate": (
            f"<b>n = {first.n_future}, {plain(first.control)}, seed {seed}: {why}</b><br>its last value: "
            f"{quantity} %{{y:.4g}}<br>{where}{run}<extra></extra>"
        ),
    }


def _mean_lines(part: MeanPart, group: Sequence[Curve], quantity: str) -> list[dict[str, Any]]:
    """Band and mean of one part; thinner and paler if seeds of the group are missing from it."""
    middle, low, high = mean_and_band(part.values)
    first, whole, several = group[0], len(part.curves) == len(group), len(part.curves) > 1
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    band = {
        "mode": "lines",
        "x": np.concatenate([part.places, part.places[::-1]]),
        "y": np.concatenate([high, low[::-1]]),
        "fill": "toself",
        "fillcolor": see_through(color, 0.18 if whole else 0.1),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    interval = "95% t interval of the mean: %{customdata[0]:.4g} to %{customdata[1]:.4g}" if several else "no interval"
    line = {
        "mode": "lines",
        "x": part.places,
        "y": middle,
        "line": {"color": color, "width": 3 if whole else 1.8, "dash": dash},
        "customdata": np.stack([low, high], axis=1),
        "hovertemplate": (
            f"<b>{plain(first.label)}: mean of {_averaged(part, group)}</b><br>{quantity} %{{y:.4g}}<br>{interval}<br>"
            "at %{x:.3s}<extra></extra>"
        ),
    }
    return [band, line] if several else [line]


def _averaged(part: MeanPart, group: Sequence[Curve]) -> str:
    """The seeds of a mean in words: `4 seeds`, or `3 of 4 seeds, seed 2 ended early`."""
    left = set(map(id, part.curves))
    gone = [str(curve.seed) for curve in group if id(curve) not in left]
    if not gone:
        return seeds_text(len(group))
    more = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
    names = f"seed{'' if len(gone) == 1 else 's'} {', '.join(gone[:MOST_NAMED])}{more}"
    return f"{len(part.curves)} of {len(group)} seeds, {names} ended early"


def _draw(layout: Layout, reference: Reference, index: int, y_range: tuple[float, float] | None) -> None:
    """The line with its name inside the plot: below a line at the top, above any other."""
    at = suffix(index)
    above = y_range is None or reference.value <= sum(y_range) / 2
    where = {"xref": f"x{at} domain", "yref": f"y{at}"}
    line = {"color": GREY, "width": 1.3, "dash": reference.dash}
    layout["shapes"].append(
        {"type": "line", "x0": 0, "x1": 1, "y0": reference.value, "y1": reference.value, "line": line, **where}
    )
    layout["annotations"].append(
        {
            "text": f"{reference.name} {reference.value:.3g}",
            "font": {"size": 11, "color": GREY},
            "showarrow": False,
            "x": 1 if reference.side == "right" else 0,
            "xanchor": reference.side,
            "y": reference.value,
            "yanchor": "bottom" if above else "top",
            **where,
        }
    )
