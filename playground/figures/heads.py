"""Heat-maps of the scores of every attention head, layer by layer, at one step or as an animation through training.

There is a column for each score, a row for each run, and below two runs a row for their difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from playground.figures.contrast import DIVERGING
from playground.figures.head_cells import Cells, heat_map, layer_order, letters, numbers, score_cells, short_layer
from playground.figures.head_difference import Pairing, difference_cells, shared_layers
from playground.figures.panels import Layout, place, suffix
from playground.figures.player import PLAYER_HEIGHT, player
from playground.figures.style import GREY, SCALE, Style, apply_style
from playground.figures.text import plain
from playground.figures.wording import wrapped
from playground.results import AttentionHistory, AttentionScores, score_title

MOST_FRAMES = 80
MOST_CELLS = 10_000
"""Most cells in all frames together; with more heads there are fewer frames."""
CELL, GAP, LINE = 36, 112, 16
"""Pixels: height of a cell, gap between two rows of panels, and height of one more title line in the gap."""
MARGIN = {"t": 66, "b": 52 + PLAYER_HEIGHT, "l": 36, "r": 12}
SMALL_CELL = 30
SMALL_MOST_NUMBERS = 4
"""A small map with more heads per layer than this shows no numbers."""


def null_of(scores: AttentionScores, name: str) -> float:
    """The largest null band of all heads, for one score."""
    return float(np.nanmax(scores.null(name)))


def at_step(history: AttentionHistory, step: int) -> int:
    """Index of the last evaluation at or before `step`; the first one if there is none."""
    return max(0, int(np.searchsorted(history.steps, step, side="right")) - 1)


def frame_steps(histories: Sequence[AttentionHistory], most: int = MOST_FRAMES) -> list[int]:
    """Steps at which any of the runs was evaluated, thinned out evenly to at most `most`; the last one is kept."""
    steps = sorted({step for history in histories for step in history.steps})
    if len(steps) <= most:
        return steps
    return [steps[index] for index in np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))]


def head_map_figure(
    history: AttentionHistory, title: str, *, score: str = "prefix_matching", style: Style = "screen"
) -> go.Figure:
    """A small layer x head heat-map of one run at its newest evaluation, to be placed next to others; 0 dark, 1 yellow."""
    newest = history.results[-1]
    cells = score_cells(newest, score, newest.layers, history.steps[-1])
    n_layers, n_heads = cells.values.shape
    layout = place(0, 0, 0, (1, 1), (0, 0)) | {
        "coloraxis": {**_score_bar(), "showscale": False},
        "uirevision": "keep",
        "height": SMALL_CELL * n_layers + 28 + 44,
        "margin": {"l": 40, "r": 4, "t": 28, "b": 44},
        "font": {"size": 11},
        "title": {
            "text": f"{plain(title)}, step {history.steps[-1]:,}",
            "font": {"size": 12},
            "x": 0.5,
            "xanchor": "center",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 6},
        },
        "annotations": _small_numbers(cells) if n_heads <= SMALL_MOST_NUMBERS else [],
    }
    _label_axes(layout, cells, 0, "attention head")
    return apply_style(go.Figure({"data": [heat_map(cells)], "layout": layout}), style)


def heads_figure(
    histories: Mapping[str, AttentionHistory],
    *,
    scores: Sequence[str] = ("prefix_matching", "previous_token"),
    difference: Pairing | None = None,
    style: Style = "screen",
) -> go.Figure:
    """Heat-maps, a row for each run and a column for each score, with a slider through training; starts at the last step.

    `difference` adds a row with the second run minus the first, heads paired by rank or by index. Raises ValueError if it is
    given for a number of runs other than two.
    """
    if difference is not None and len(histories) != 2:
        raise ValueError(f"a difference takes two runs, and there are {len(histories)}; leave it out")
    runs = list(histories.values())
    layers = layer_order(layer for history in runs for layer in history.results[-1].layers)
    panels = _Panels(histories, scores, layers, difference)
    steps = frame_steps(runs, panels.most_frames)
    shape = (panels.n_rows, len(scores))
    more_lines = max((wrapped(title).count("<br>") for title in histories), default=0)
    gap = GAP + LINE * more_lines
    plot_height = shape[0] * CELL * max(1, len(layers)) + (shape[0] - 1) * gap
    margin = MARGIN | {"t": MARGIN["t"] + LINE * more_lines}
    layout: Layout = {"coloraxis": _score_bar(), "margin": margin, "annotations": [], "shapes": []}
    layout |= {"height": plot_height + margin["t"] + margin["b"]}
    layout |= player([str(step) for step in steps], [f"{step:,}" for step in steps], "training step ", plot_height, 58)
    last = panels.cells(steps[-1]) if steps else []
    for index, cells in enumerate(last):
        row, column = divmod(index, shape[1])
        layout |= place(index, row, column, shape, (gap / plot_height, 0.12))
        layout["annotations"].append(_title(index, panels.title(row, scores[column])))
        is_last_run = row == len(runs) - 1
        ranked = "rank within the layer" if difference == "rank" else "attention head"
        _label_axes(layout, cells, index, ranked if cells.signed else "attention head" if is_last_run else "")
    if difference is not None and last:
        _two_bars(layout, shape[0], gap / plot_height)
    frames = [{"name": str(step), "data": _traces(panels.cells(step))} for step in steps]
    for frame in frames:
        frame["traces"] = list(range(len(frame["data"])))
    data = frames[-1]["data"] if frames else []
    return apply_style(go.Figure({"data": data, "layout": layout, "frames": frames}), style)


class _Panels:
    """Content of each panel at each step, row by row."""

    def __init__(
        self,
        histories: Mapping[str, AttentionHistory],
        scores: Sequence[str],
        layers: tuple[str, ...],
        difference: Pairing | None,
    ) -> None:
        self.histories, self.scores, self.layers = histories, scores, layers
        self.difference: Pairing | None = difference
        self.n_rows = len(histories) + (difference is not None)

    @property
    def most_frames(self) -> int:
        n_heads = max((history.results[-1].previous_token.shape[1] for history in self.histories.values()), default=1)
        a_frame = max(1, self.n_rows * len(self.scores) * len(self.layers) * n_heads)
        return max(2, min(MOST_FRAMES, MOST_CELLS // a_frame))

    def cells(self, step: int) -> list[Cells]:
        shown = [(history, at_step(history, step)) for history in self.histories.values()]
        found = [
            score_cells(history.results[index], name, self.layers, history.steps[index])
            for history, index in shown
            for name in self.scores
        ]
        pairing = self.difference
        if pairing is not None:
            left, right = (history.results[index] for history, index in shown)
            found += [difference_cells(left, right, name, self.layers, pairing=pairing) for name in self.scores]
        return found

    def title(self, row: int, name: str) -> list[str]:
        """The lines of the title of a panel."""
        if row == len(self.histories):
            left, right = (history.results[-1] for history in self.histories.values())
            shared = len(shared_layers(left, right))
            return [
                "<b>difference: lower − upper</b>",
                plain(score_title(name)),
                f"{shared} shared layers, no change 0",
            ]
        run = list(self.histories)[row]
        last = self.histories[run].results[-1]
        limits = f"ideal {last.ideal:.0f}, null up to {null_of(last, name):.2f}"
        return [f"<b>{wrapped(run)}</b>", plain(score_title(name)), limits]


def _traces(panels: Sequence[Cells]) -> list[dict[str, Any]]:
    """First the coloured cells of every panel, then the numbers of every panel."""
    return [
        trace | {"xaxis": f"x{suffix(index)}", "yaxis": f"y{suffix(index)}"}
        for draw in (heat_map, letters)
        for index, trace in enumerate(map(draw, panels))
    ]


def _small_numbers(cells: Cells) -> list[dict[str, Any]]:
    return [
        {"x": int(column), "y": int(row), "text": text, "showarrow": False, "font": {"size": 11, "color": color}}
        for (row, column), text, color in zip(*numbers(cells), strict=True)
    ]


def _title(index: int, lines: Sequence[str]) -> dict[str, Any]:
    at = suffix(index)
    return {
        "text": "<br>".join(lines),
        "x": 0.5,
        "xref": f"x{at} domain",
        "xanchor": "center",
        "y": 1,
        "yref": f"y{at} domain",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12},
        "yshift": 2,
    }


def _label_axes(layout: Layout, cells: Cells, index: int, x_title: str) -> None:
    """Layer names from bottom to top; a line separates the trunk from the future heads."""
    n_layers, n_heads = cells.values.shape
    at = suffix(index)
    layout[f"xaxis{at}"] |= {
        "title": {"text": x_title, "standoff": 2, "font": {"size": 12}},
        "tickvals": list(range(n_heads)),
        "range": [-0.5, n_heads - 0.5],
        "showgrid": False,
        "tickangle": 0,
    }
    layout[f"yaxis{at}"] |= {
        "tickvals": list(range(n_layers)),
        "ticktext": [short_layer(layer) for layer in cells.layers],
        "range": [-0.5, n_layers - 0.5],
        "showgrid": False,
    }
    n_trunk = sum(layer.startswith("blocks.") for layer in cells.layers)
    if 0 < n_trunk < n_layers:
        ends = {"x0": -0.5, "x1": n_heads - 0.5, "y0": n_trunk - 0.5, "y1": n_trunk - 0.5}
        line = {"color": GREY, "width": 3}
        layout.setdefault("shapes", []).append(
            {"type": "line", "xref": f"x{at}", "yref": f"y{at}", "line": line, **ends}
        )


def _score_bar() -> dict[str, Any]:
    bar = {
        "title": {"text": "score"},
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "thickness": 12,
        "outlinewidth": 0,
        "ticktext": ["0", ".25", ".5", ".75", "1 ideal"],
        "xpad": 4,
    }
    return {"colorscale": SCALE, "cmin": 0, "cmax": 1, "colorbar": bar}


def _two_bars(layout: Layout, n_rows: int, gap: float) -> None:
    """Place the colour bar of the scores next to the runs, and that of the differences next to their row."""
    step = (1 + gap) / n_rows
    layout["coloraxis"]["colorbar"] |= {"y": 1, "yanchor": "top", "len": 1 - step}
    bar = {
        "title": {"text": "difference"},
        "tickvals": [-1, 0, 1],
        "ticktext": ["−1", "0", "+1"],
        "thickness": 12,
        "outlinewidth": 0,
        "xpad": 4,
        "y": 0,
        "yanchor": "bottom",
        "len": step - gap,
    }
    scale = [list(stop) for stop in DIVERGING]
    layout["coloraxis2"] = {"colorscale": scale, "cmin": -1, "cmax": 1, "cmid": 0, "colorbar": bar}
