"""Scores of every attention head, layer by layer, at one moment of training and as an animation through it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, SCALE, Style, apply_style
from playground.results import AttentionHistory, AttentionScores

ScoreName = Literal["prefix_matching", "previous_token"]
TITLES: dict[ScoreName, str] = {"prefix_matching": "prefix matching (induction)", "previous_token": "previous token"}
MOST_FRAMES = 80
CELL, GAP = 40, 104
"""Pixels: height of a cell, and what lies between two rows of panels."""
MARGIN = {"t": 44, "b": 150, "l": 110, "r": 16}
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
    heat_map = _heat_map(newest, score, history.steps[-1], numbers=n_heads <= MOST_NUMBERS)
    layout = place(0, 0, 0, (1, 1), (0, 0)) | {
        "coloraxis": {**_color_axis(), "showscale": False}, "uirevision": "keep",
        "height": SMALL_CELL * n_layers + 28 + 44, "margin": {"l": 84, "r": 4, "t": 28, "b": 44}, "font": {"size": 11},
        "title": {"text": f"{title}, step {history.steps[-1]:,}", "font": {"size": 12}, "x": 0.5, "xanchor": "center",
                  "y": 1, "yanchor": "top", "pad": {"t": 6}},
    }  # fmt: skip
    _label_axes(layout, newest, 0)
    return apply_style(go.Figure({"data": [heat_map], "layout": layout}), style)


def heads_figure(
    histories: Mapping[str, AttentionHistory], *, scores: Sequence[ScoreName] = ("prefix_matching", "previous_token"),
    style: Style = "screen",
) -> go.Figure:  # fmt: skip
    """Layer x head heat-maps, a column for each run and a row for each score, with a slider through training.

    A number stands in a cell where the head exceeds its null band. The figure opens at the last step.
    """
    runs = list(histories.values())
    steps = frame_steps(runs)
    shape = (len(scores), len(runs))
    deepest = max((len(history.scores[-1].layers) for history in runs), default=1)
    plot_height = shape[0] * CELL * deepest + (shape[0] - 1) * GAP
    layout: Layout = {"coloraxis": _color_axis(), "margin": MARGIN, "annotations": [], "shapes": []}
    layout |= {"height": plot_height + MARGIN["t"] + MARGIN["b"]} | _player(steps, plot_height)
    panels: list[tuple[ScoreName, str]] = [(name, title) for name in scores for title in histories]
    for index, (name, title) in enumerate(panels):
        layout |= place(index, *divmod(index, shape[1]), shape, (GAP / plot_height, 0.17))
        layout["annotations"].append(panel_title(index, _panel_text(title, histories[title], name)))
        _label_axes(layout, histories[title].scores[-1], index)
    frames = [{"name": str(step), "data": _maps(runs, scores, step)} for step in steps]
    for frame in frames:
        frame["traces"] = list(range(len(frame["data"])))
    data = frames[-1]["data"] if frames else []
    return apply_style(go.Figure({"data": data, "layout": layout, "frames": frames}), style)


def _panel_text(title: str, history: AttentionHistory, name: ScoreName) -> str:
    last = history.scores[-1]
    return f"<b>{title}</b><br>{TITLES[name]}: ideal {last.ideal:.1f}, null up to {null_of(last, name):.2f}"


def _heat_map(scores: AttentionScores, name: ScoreName, step: int, *, numbers: bool = True) -> dict[str, Any]:
    values = getattr(scores, name)
    null = getattr(scores, f"null_{name}")
    text = np.where((values > null) & numbers, np.char.mod("%.2f", np.nan_to_num(values)), "")
    return {
        "type": "heatmap", "z": values, "coloraxis": "coloraxis", "text": text, "texttemplate": "%{text}",
        "textfont": {"size": 11}, "xgap": 2, "ygap": 2,
        "customdata": np.dstack([null, np.broadcast_to(np.array(scores.layers)[:, None], values.shape)]),
        "hovertemplate": (
            f"%{{customdata[1]}}, head %{{x}}<br>{TITLES[name]} %{{z:.3f}}<br>null band %{{customdata[0]:.3f}}, "
            f"ideal {scores.ideal:.1f}<br>step {step:,}<extra></extra>"
        ),
    }  # fmt: skip


def _label_axes(layout: Layout, scores: AttentionScores, index: int) -> None:
    """Layers upwards from the first, as tokens flow; a line parts the trunk from the future heads."""
    n_layers, n_heads = scores.prefix_matching.shape
    at = suffix(index)
    names = [layer_name(layer) for layer in scores.layers]
    layout[f"xaxis{at}"] |= {"title": {"text": "attention head"}, "tickvals": list(range(n_heads)), "showgrid": False}
    layout[f"yaxis{at}"] |= {"tickvals": list(range(n_layers)), "ticktext": names, "showgrid": False}
    n_trunk = sum(layer.startswith("blocks.") for layer in scores.layers)
    if 0 < n_trunk < n_layers:
        ends = {"x0": -0.5, "x1": n_heads - 0.5, "y0": n_trunk - 0.5, "y1": n_trunk - 0.5}
        line = {"color": GREY, "width": 3}
        layout.setdefault("shapes", []).append(
            {"type": "line", "xref": f"x{at}", "yref": f"y{at}", "line": line, **ends}
        )


def _maps(runs: Sequence[AttentionHistory], names: Sequence[ScoreName], step: int) -> list[dict[str, Any]]:
    """One heat-map a panel, in the order of the panels."""
    found: list[dict[str, Any]] = []
    for name in names:
        for run in runs:
            index = at_step(run, step)
            at = suffix(len(found))
            axes = {"xaxis": f"x{at}", "yaxis": f"y{at}"}
            found.append(_heat_map(run.scores[index], name, run.steps[index]) | axes)
    return found


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
        "active": max(0, len(steps) - 1), "x": 0.2, "len": 0.8, "y": below, "yanchor": "top", "pad": {"t": 0},
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
