"""Scores of every attention head, layer by layer, at one moment of training and as an animation through it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from playground.figures.style import GREY, SCALE, Style, apply_style
from playground.results import AttentionHistory, AttentionScores

ScoreName = Literal["prefix_matching", "previous_token"]
TITLES: dict[ScoreName, str] = {"prefix_matching": "prefix matching (induction)", "previous_token": "previous token"}
MOST_FRAMES = 80
CELL, GAP = 40, 104
"""Pixels: height of a cell, and what lies between two rows of panels."""
SMALL_CELL = 30
MOST_NUMBERS = 4
"""A small map with more heads than this has no room for numbers."""


def layer_name(hook_name: str) -> str:
    """What a layer is called in a figure: `blocks.0` is `trunk 0`, `future_heads.1` is `future head 2`."""
    kind, _, number = hook_name.partition(".")
    return f"future head {int(number) + 1}" if kind == "future_heads" else f"trunk {number}"


def null_of(scores: AttentionScores, name: ScoreName) -> float:
    """The largest null band of all heads: what none of them exceeds when the targets are moved."""
    return float(np.nanmax(getattr(scores, f"null_{name}")))


def at_step(history: AttentionHistory, step: int) -> int:
    """Index of the last evaluation at or before `step` (the first one, when there is none)."""
    return max(0, int(np.searchsorted(history.steps, step, side="right")) - 1)


def frame_steps(histories: Sequence[AttentionHistory], most: int = MOST_FRAMES) -> list[int]:
    """Steps at which any of the runs was evaluated, thinned out evenly to at most `most`, the last one kept."""
    steps = sorted({step for history in histories for step in history.steps})
    if len(steps) <= most:
        return steps
    return [steps[index] for index in np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))]


def head_map_figure(
    history: AttentionHistory, title: str, *, score: ScoreName = "prefix_matching", style: Style = "screen"
) -> go.Figure:
    """A small layer x head heat-map of one run at its newest evaluation, for several side by side; 0 dark, 1 yellow."""
    newest = history.scores[-1]
    n_layers, n_heads = newest.prefix_matching.shape
    figure = make_subplots(rows=1, cols=1)
    figure.add_trace(_heat_map(newest, score, history.steps[-1], numbers=n_heads <= MOST_NUMBERS), row=1, col=1)
    _label_axes(figure, newest, 1, 1)
    apply_style(figure, style)
    figure.update_layout(
        coloraxis={**_color_axis(), "showscale": False}, uirevision="keep", height=SMALL_CELL * n_layers + 28 + 44,
        margin={"l": 84, "r": 4, "t": 28, "b": 44}, font={"size": 11},
        title={"text": f"{title}, step {history.steps[-1]:,}", "font": {"size": 12}, "x": 0.5, "xanchor": "center", "y": 1,
               "yanchor": "top", "pad": {"t": 6}},
    )  # fmt: skip
    return figure


def heads_figure(
    histories: Mapping[str, AttentionHistory], *, scores: Sequence[ScoreName] = ("prefix_matching", "previous_token"),
    style: Style = "screen",
) -> go.Figure:  # fmt: skip
    """Layer x head heat-maps, a column for each run and a row for each score, with a slider through training.

    A number stands in a cell where the head exceeds its null band. The figure opens at the last step.
    """
    runs = list(histories.values())
    steps = frame_steps(runs)
    rows, columns = len(scores), len(runs)
    deepest = max((len(history.scores[-1].layers) for history in runs), default=1)
    plot_height = rows * CELL * deepest + (rows - 1) * GAP
    titles = [_panel_title(title, history, name) for name in scores for title, history in histories.items()]
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, horizontal_spacing=0.13, vertical_spacing=GAP / plot_height
    )
    for row, name in enumerate(scores, start=1):
        for column, history in enumerate(runs, start=1):
            figure.add_trace(_heat_map(history.scores[-1], name, history.steps[-1]), row=row, col=column)
            _label_axes(figure, history.scores[-1], row, column)
    figure.frames = [_frame(runs, scores, step) for step in steps]
    apply_style(figure, style)
    figure.update_annotations(font_size=13)
    margin = {"t": 44, "b": 150, "l": 110}
    figure.update_layout(coloraxis=_color_axis(), margin=margin, height=plot_height + margin["t"] + margin["b"])
    return figure.update_layout(**_player(steps, plot_height))


def _panel_title(title: str, history: AttentionHistory, name: ScoreName) -> str:
    last = history.scores[-1]
    return f"<b>{title}</b><br>{TITLES[name]}: ideal {last.ideal:.1f}, null band {null_of(last, name):.2f}"


def _heat_map(scores: AttentionScores, name: ScoreName, step: int, *, numbers: bool = True) -> go.Heatmap:
    values = getattr(scores, name)
    null = getattr(scores, f"null_{name}")
    text = np.where((values > null) & numbers, np.char.mod("%.2f", np.nan_to_num(values)), "")
    return go.Heatmap(
        z=values, coloraxis="coloraxis", text=text, texttemplate="%{text}", textfont={"size": 11}, xgap=2, ygap=2,
        customdata=np.dstack([null, np.broadcast_to(np.array(scores.layers)[:, None], values.shape)]),
        hovertemplate=(
            f"%{{customdata[1]}}, head %{{x}}<br>{TITLES[name]} %{{z:.3f}}<br>null band %{{customdata[0]:.3f}}, "
            f"ideal {scores.ideal:.1f}<br>step {step:,}<extra></extra>"
        ),
    )  # fmt: skip


def _label_axes(figure: go.Figure, scores: AttentionScores, row: int, col: int) -> None:
    """Layers upwards from the first, as tokens flow; a line parts the trunk from the future heads."""
    n_layers, n_heads = scores.prefix_matching.shape
    figure.update_xaxes(title_text="attention head", tickvals=list(range(n_heads)), showgrid=False, row=row, col=col)
    names = [layer_name(layer) for layer in scores.layers]
    figure.update_yaxes(tickvals=list(range(n_layers)), ticktext=names, showgrid=False, row=row, col=col)
    n_trunk = sum(layer.startswith("blocks.") for layer in scores.layers)
    if 0 < n_trunk < n_layers:
        figure.add_shape(
            type="line", x0=-0.5, x1=n_heads - 0.5, y0=n_trunk - 0.5, y1=n_trunk - 0.5,
            line={"color": GREY, "width": 3}, row=row, col=col,
        )  # fmt: skip


def _frame(runs: Sequence[AttentionHistory], names: Sequence[ScoreName], step: int) -> go.Frame:
    maps = [
        _heat_map(run.scores[at_step(run, step)], name, run.steps[at_step(run, step)]) for name in names for run in runs
    ]
    return go.Frame(name=str(step), data=maps, traces=list(range(len(maps))))


def _color_axis() -> dict[str, Any]:
    bar = {"title": {"text": "score"}, "tickvals": [0, 0.25, 0.5, 0.75, 1], "thickness": 14, "outlinewidth": 0,
           "ticktext": ["0", "0.25", "0.5", "0.75", "1 (ideal)"]}  # fmt: skip
    return {"colorscale": SCALE, "cmin": 0, "cmax": 1, "colorbar": bar}


def _player(steps: Sequence[int], plot_height: float) -> dict[str, Any]:
    """Play, pause and a slider over the frames."""
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    playing = {**still, "fromcurrent": True, "frame": {"duration": max(40, 4000 // max(1, len(steps))), "redraw": True}}
    below = -70 / plot_height
    slider = {
        "active": len(steps) - 1, "x": 0.2, "len": 0.8, "y": below, "yanchor": "top", "pad": {"t": 0},
        "currentvalue": {"prefix": "training step ", "xanchor": "right"},
        "steps": [{"label": f"{step:,}", "method": "animate", "args": [[str(step)], still]} for step in steps],
    }  # fmt: skip
    start = {**playing, "fromcurrent": False}
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, start]},
        {"label": "Pause", "method": "animate", "args": [[None], still]},
    ]
    menu = {
        "type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": below, "yanchor": "top",
        "showactive": False, "buttons": buttons, "bgcolor": "rgba(128, 136, 144, 0.15)", "pad": {"t": 12},
    }  # fmt: skip
    return {"sliders": [slider], "updatemenus": [menu]}
