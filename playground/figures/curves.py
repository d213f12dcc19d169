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
from plotly.subplots import make_subplots

from playground.figures.aggregate import mean_and_band
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
    rows = -(-len(panels) // columns)
    titles = panels if any(panels) else None
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes="all", subplot_titles=titles,  # type: ignore[arg-type]
        horizontal_spacing=0.03, vertical_spacing=0.22 / rows,
    )  # fmt: skip
    named: set[str] = set()
    for index, panel in enumerate(panels):
        row, col = index // columns + 1, index % columns + 1
        for label in dict.fromkeys(curve.label for curve in curves):
            group = [curve for curve in curves if curve.label == label and curve.panel == panel]
            for trace in _group_traces(group, x, y_title, label not in named):
                named.add(label)
                figure.add_trace(trace, row=row, col=col)
        nticks = 7 if columns < 3 else 4
        figure.update_xaxes(title_text=X_TITLES[x], tickformat="~s", nticks=nticks, row=row, col=col)
    for reference in references:
        _draw(figure, reference, y_range)
    figure.update_yaxes(title_text=y_title, col=1)
    if y_range is not None:
        figure.update_yaxes(range=list(y_range))
    apply_style(figure, style)
    top = 60 if titles else 36
    legend = {"y": 1.0 + (30 if titles else 6) / max(1, height - top - 48)}
    return figure.update_layout(height=height * rows, margin={"t": top}, legend=legend, uirevision="keep")


def span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """A vertical range that holds all values with some room."""
    low, high = min(values), max(values)
    room = pad * (high - low or 1.0)
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
    shared = shared[:: -(-len(shared) // MOST_POINTS)]
    places = np.array([tables[0][step][0] for step in shared])
    return places, np.array([[table[step][1] for step in shared] for table in tables])


def _group_traces(group: Sequence[Curve], x: X, y_title: str, in_legend: bool) -> list[go.Scatter]:
    if not group:
        return []
    first = group[0]
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    counted = [curve for curve in group if curve.in_mean] or list(group)
    alone = len(counted) == 1
    ordered = [curve for curve in group if curve not in counted] + counted
    traces = [_seed_line(curve, x, y_title, color, dash, alone and curve is counted[0]) for curve in ordered]
    mean = None if alone else mean_curve(counted, x)
    if mean is not None:
        traces += _mean_lines(mean, counted, y_title, color, dash)
    traces[-1].showlegend = in_legend
    return traces


def _seed_line(curve: Curve, x: X, y_title: str, color: str, dash: str, alone: bool) -> go.Scatter:
    every = -(-len(curve.steps) // MOST_POINTS) or 1
    # Counted from the end, so that the newest point is always there.
    keep = slice((len(curve.steps) - 1) % every, None, every)
    return go.Scatter(
        x=curve.at(x)[keep], y=curve.values[keep], mode="lines",
        line={"color": color, "width": 2.2 if alone else 1.0, "dash": dash}, opacity=1.0 if alone else 0.4,
        name=curve.label, legendgroup=curve.label, showlegend=False,
        customdata=np.stack([curve.steps[keep], curve.tokens[keep]], axis=1),
        hovertemplate=(
            f"<b>n = {curve.n_future}, {curve.control}, seed {curve.seed}</b><br>{y_title} %{{y:.4g}}<br>"
            f"step %{{customdata[0]:,}}, %{{customdata[1]:.3s}} tokens<br>{curve.run}<extra></extra>"
        ),
    )  # fmt: skip


def _mean_lines(
    mean: tuple[NDArray[Any], NDArray[np.float64]], group: Sequence[Curve], y_title: str, color: str, dash: str
) -> list[go.Scatter]:
    places, values = mean
    middle, low, high = mean_and_band(values)
    label = group[0].label
    common = {"legendgroup": label, "name": label, "showlegend": False}
    band = go.Scatter(
        x=np.concatenate([places, places[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        fillcolor=see_through(color, 0.18), line={"width": 0}, hoverinfo="skip", **common,
    )  # fmt: skip
    line = go.Scatter(
        x=places, y=middle, mode="lines", line={"color": color, "width": 3, "dash": dash}, **common,
        customdata=np.stack([low, high], axis=1),
        hovertemplate=(
            f"<b>{label}: mean of {len(values)} seeds</b><br>{y_title} %{{y:.4g}}<br>95% of the mean: "
            "%{customdata[0]:.4g} to %{customdata[1]:.4g}<br>at %{x:.3s}<extra></extra>"
        ),
    )  # fmt: skip
    return [band, line]


def _draw(figure: go.Figure, reference: Reference, y_range: tuple[float, float] | None) -> None:
    """The line, with its name inside the plot: below a line at the top, above any other."""
    above = y_range is None or reference.value <= sum(y_range) / 2
    figure.add_hline(
        y=reference.value, line={"color": GREY, "width": 1.3, "dash": reference.dash},
        annotation={"text": f"{reference.name} {reference.value:.3g}", "font": {"size": 11, "color": GREY}},
        annotation_position=f"{'top' if above else 'bottom'} {reference.side}",
    )  # fmt: skip
