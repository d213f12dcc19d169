"""Exact match on expressions of m operations (Gloeckle et al. 2024, figure 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from playground.figures.aggregate import mean_and_band
from playground.figures.curves import seeds_text
from playground.figures.style import GREY, Style, apply_style, color_of, dash_of
from playground.figures.text import plain


@dataclass(frozen=True, kw_only=True)
class ByOperations:
    """Exact match of one run by number of operations m."""

    run: str
    label: str
    n_future: int
    control: str
    seed: int
    variant: int = 0
    values: Mapping[int, float]


def operations_figure(
    runs: Sequence[ByOperations],
    chance: Mapping[int, float],
    *,
    trained_up_to: int | None = None,
    height: int = 360,
    style: Style = "screen",
) -> go.Figure:
    """A line for each group of seeds, with the interval of its mean; the range m > `trained_up_to` is shaded."""
    figure = go.Figure()
    for label in dict.fromkeys(run.label for run in runs):
        _add_group(figure, [run for run in runs if run.label == label])
    if chance:
        figure.add_trace(
            go.Scatter(
                x=list(chance),
                y=list(chance.values()),
                mode="lines",
                name="chance",
                line={"color": GREY, "dash": "dot", "width": 1.3},
                hovertemplate="chance for m = %{x}: %{y:.3g}<extra></extra>",
            )
        )
    numbers = sorted({m for run in runs for m in run.values})
    if trained_up_to is not None and numbers and max(numbers) > trained_up_to:
        figure.add_vrect(
            x0=trained_up_to + 0.5,
            x1=max(numbers) + 0.5,
            fillcolor=GREY,
            opacity=0.12,
            line_width=0,
            annotation={"text": "more than in training", "font": {"size": 11, "color": GREY}},
            annotation_position="top left",
        )
    apply_style(figure, style)
    figure.update_xaxes(title_text="operations in the expression, m", dtick=1)
    figure.update_yaxes(title_text="exact match (share of expressions)", range=[-0.05, 1.09])
    return figure.update_layout(height=height, uirevision="keep")


def _add_group(figure: go.Figure, group: Sequence[ByOperations]) -> None:
    first = group[0]
    numbers = sorted(set(first.values).intersection(*(run.values for run in group[1:])))
    if not numbers:
        return
    table = np.array([[run.values[m] for m in numbers] for run in group], dtype=np.float64)
    mean, low, high = mean_and_band(table)
    seeds = ", ".join(str(run.seed) for run in group)
    seeded, several = seeds_text(len(group)), len(group) > 1
    interval = "95% t interval of the mean: %{customdata[0]:.3f} to %{customdata[1]:.3f}" if several else "no interval"
    figure.add_trace(
        go.Scatter(
            x=numbers,
            y=mean,
            mode="lines+markers",
            name=f"{plain(first.label)} ({seeded})",
            legendgroup=first.label,
            customdata=np.stack([low, high], axis=1),
            line={"color": color_of(first.n_future, first.variant), "dash": dash_of(first.control), "width": 2.5},
            error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low},
            hovertemplate=(
                f"<b>{plain(first.label)}: {'mean of ' if several else ''}{seeded}</b> ({seeds})<br>m = %{{x}}: %{{y:.3f}}<br>"
                f"{interval}<extra></extra>"
            ),
        )
    )
