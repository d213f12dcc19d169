"""A grid of panels with common titles, margins and legend, for figures that draw one panel per run or per quantity."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import COLORS, Style, apply_style
from playground.figures.wording import wrapped

GAP, TOP, BOTTOM, LEGEND = 84, 44, 58, 30
"""Pixels: between two rows of panels, above and below all of them, and height of the legend."""
LINE = 17
WIDTH = 44
"""Letters of a panel's title in one line, with two panels side by side."""


def run_color(index: int) -> str:
    """Colour of the first, second, .. run of a figure: that of n = 1, of n = 2, .. (style.py)."""
    colors = list(COLORS.values())
    return colors[index % len(colors)]


class Grid:
    """Collects the traces and axes of panels, filled row by row.

    `titles` has the title of every panel; `column_gap` is the share of the width between two columns.
    """

    def __init__(self, titles: Sequence[str], columns: int, panel: float, column_gap: float = 0.09) -> None:
        self.columns = max(1, min(columns, len(titles)))
        self.rows = max(1, -(-len(titles) // self.columns))
        self.traces: list[dict[str, Any]] = []
        lines = [wrapped(title, WIDTH * 2 // self.columns) for title in titles]
        more = LINE * max((line.count("<br>") for line in lines), default=0)
        gap = GAP + more
        inner = self.rows * panel + (self.rows - 1) * gap
        self.layout: Layout = {"annotations": [], "shapes": [], "barmode": "group", "bargap": 0.25}
        self.layout |= {
            "height": inner + TOP + more + BOTTOM + LEGEND,
            "margin": {"t": TOP + more + LEGEND, "b": BOTTOM},
        }
        self.layout["legend"] = {"y": 1 + (TOP + more - 12) / inner, "traceorder": "normal"}
        for index, line in enumerate(lines):
            row, column = divmod(index, self.columns)
            self.layout |= place(index, row, column, (self.rows, self.columns), (gap / inner, column_gap))
            self.layout["annotations"].append(panel_title(index, line))

    def add(self, index: int, traces: Sequence[dict[str, Any]], *, x: Mapping[str, Any], y: Mapping[str, Any]) -> None:
        """Place traces and settings of both axes into a panel."""
        at = suffix(index)
        self.traces += [trace | {"xaxis": f"x{at}", "yaxis": f"y{at}"} for trace in traces]
        self.layout[f"xaxis{at}"] |= x
        self.layout[f"yaxis{at}"] |= y

    def is_low(self, index: int, count: int) -> bool:
        """True for a panel with no other panel below it."""
        return index + self.columns >= count

    def figure(self, style: Style) -> go.Figure:
        """The finished figure; each legend entry is shown once."""
        seen: set[str] = set()
        for trace in self.traces:
            name = trace.get("legendgroup")
            trace["showlegend"] = bool(name) and name not in seen and trace.get("showlegend", True)
            seen |= {name} if name else set()
        return apply_style(go.Figure({"data": self.traces, "layout": self.layout}), style)
