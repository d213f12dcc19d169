"""Quantities along training, one line a run: thin lines for seeds, a bold mean, a band for its interval.

Runs that differ in nothing but the seed form a group and share colour, dash and legend entry. The mean stands only
where every run of the group has a value, so that it never jumps when a shorter run ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.aggregate import mean_and_band
from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, Style, apply_style, color_of, dash_of, see_through

X = Literal["tokens", "step"]
MOST_POINTS = 300
X_TITLES = {"tokens": "training tokens seen", "step": "training step"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One quantity of one run along training."""

    run: str
    label: str
    """What the legend calls the group of runs that this one belongs to."""
    n_future: int
    control: str
    seed: int
    variant: int = 0
    """Number among the groups of equal n_future and control; chooses the shade."""
    panel: str = ""
    """Title of the panel it is drawn in."""
    in_mean: bool = True
    """Whether it counts for the group's mean; a run that ended early, or repeats a seed, is drawn thin and does not."""
    steps: NDArray[np.int64]
    tokens: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, x: X) -> NDArray[np.int64]:
        """Where the values stand on the horizontal axis."""
        return self.tokens if x == "tokens" else self.steps


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A horizontal line with a name: chance, ceiling, null band."""

    name: str
    value: float
    dash: str = "dot"
    side: Literal["left", "right"] = "right"
    """Where its name stands: at the end where curves are not."""


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
    """All curves, one panel for each of their panel titles, side by side with a common vertical axis."""
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
        layout["annotations"] += [panel_title(index, panel)] if panel else []
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
    """A vertical range that holds all values with some room."""
    low, high = min(values), max(values)
    room = pad * (high - low) or pad
    return low - room, high + room


def mean_curve(group: Sequence[Curve], x: X) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Positions that every curve of the group has a value at, and those values `[seed, point]`."""
    tables = [
        {int(step): (place, value) for step, place, value in zip(curve.steps, curve.at(x), curve.values, strict=True)
         if np.isfinite(value)}
        for curve in group
    ]  # fmt: skip
    shared = sorted(set(tables[0]).intersection(*tables[1:])) if tables else []
    if not shared:
        return None
    every = -(-len(shared) // MOST_POINTS)
    # Counted from the end, so that the newest point is always there.
    shared = shared[(len(shared) - 1) % every :: every]
    places = np.array([tables[0][step][0] for step in shared])
    return places, np.array([[table[step][1] for step in shared] for table in tables])


def _panel_traces(
    curves: Sequence[Curve], panel: str, x: X, y_title: str, axes: dict[str, str]
) -> list[dict[str, Any]]:
    """The traces of one panel, group by group."""
    here = [curve for curve in curves if curve.panel == panel]
    quantity = y_title.replace("<br>", " ")
    traces: list[dict[str, Any]] = []
    for label in dict.fromkeys(curve.label for curve in here):
        group = [curve for curve in here if curve.label == label]
        traces += [trace | axes for trace in _group_traces(group, x, quantity)]
    return traces


def _name_once(traces: Sequence[dict[str, Any]]) -> None:
    """One legend entry for each group: its most prominent line, which is the last of its first panel."""
    first_panel = {trace["legendgroup"]: trace["xaxis"] for trace in reversed(traces)}
    last = {trace["legendgroup"]: trace for trace in traces if trace["xaxis"] == first_panel[trace["legendgroup"]]}
    for trace in traces:
        trace["showlegend"] = any(trace is chosen for chosen in last.values())


def _group_traces(group: Sequence[Curve], x: X, quantity: str) -> list[dict[str, Any]]:
    """Seeds that do not count, seeds that do, band, mean: what is drawn last lies on top."""
    counted = [curve for curve in group if curve.in_mean] or list(group)
    alone = len(counted) == 1
    ordered = [curve for curve in group if curve not in counted] + counted
    traces = [_seed_line(curve, x, quantity, bold=alone and curve is counted[0]) for curve in ordered]
    mean = None if alone else mean_curve(counted, x)
    return traces if mean is None else traces + _mean_lines(mean, counted, quantity)


def _seed_line(curve: Curve, x: X, quantity: str, *, bold: bool) -> dict[str, Any]:
    every = -(-len(curve.steps) // MOST_POINTS) or 1
    keep = slice((len(curve.steps) - 1) % every, None, every)
    color, dash = color_of(curve.n_future, curve.variant), dash_of(curve.control)
    return {
        "type": "scatter", "mode": "lines", "x": curve.at(x)[keep], "y": curve.values[keep],
        "line": {"color": color, "width": 2.2 if bold else 1.0, "dash": dash}, "opacity": 1.0 if bold else 0.4,
        "name": curve.label, "legendgroup": curve.label,
        "customdata": np.stack([curve.steps[keep], curve.tokens[keep]], axis=1),
        "hovertemplate": (
            f"<b>n = {curve.n_future}, {curve.control}, seed {curve.seed}</b><br>{quantity} %{{y:.4g}}<br>"
            f"step %{{customdata[0]:,}}, %{{customdata[1]:.3s}} tokens<br>{curve.run}<extra></extra>"
        ),
    }  # fmt: skip


def _mean_lines(
    mean: tuple[NDArray[Any], NDArray[np.float64]], group: Sequence[Curve], quantity: str
) -> list[dict[str, Any]]:
    places, values = mean
    middle, low, high = mean_and_band(values)
    label, first = group[0].label, group[0]
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    common = {"type": "scatter", "mode": "lines", "legendgroup": label, "name": label}
    band = {
        "x": np.concatenate([places, places[::-1]]), "y": np.concatenate([high, low[::-1]]), "fill": "toself",
        "fillcolor": see_through(color, 0.18), "line": {"width": 0}, "hoverinfo": "skip",
    }  # fmt: skip
    line = {
        "x": places, "y": middle, "line": {"color": color, "width": 3, "dash": dash},
        "customdata": np.stack([low, high], axis=1),
        "hovertemplate": (
            f"<b>{label}: mean of {len(values)} seeds</b><br>{quantity} %{{y:.4g}}<br>95% of the mean: "
            "%{customdata[0]:.4g} to %{customdata[1]:.4g}<br>at %{x:.3s}<extra></extra>"
        ),
    }  # fmt: skip
    return [common | band, common | line]


def _draw(layout: Layout, reference: Reference, index: int, y_range: tuple[float, float] | None) -> None:
    """The line, with its name inside the plot: below a line at the top, above any other."""
    at = suffix(index)
    above = y_range is None or reference.value <= sum(y_range) / 2
    where = {"xref": f"x{at} domain", "yref": f"y{at}"}
    line = {"color": GREY, "width": 1.3, "dash": reference.dash}
    layout["shapes"].append(
        {"type": "line", "x0": 0, "x1": 1, "y0": reference.value, "y1": reference.value, "line": line, **where}
    )
    layout["annotations"].append(
        {
            "text": f"{reference.name} {reference.value:.3g}", "font": {"size": 11, "color": GREY}, "showarrow": False,
            "x": 1 if reference.side == "right" else 0, "xanchor": reference.side, "y": reference.value,
            "yanchor": "bottom" if above else "top", **where,
        }
    )  # fmt: skip
