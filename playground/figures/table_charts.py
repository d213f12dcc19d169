"""Charts of table rows (`Result.rows()`): bars beside names, and lines over a column. A colour is one run."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from playground.figures.grid import Grid, run_color
from playground.figures.head_colors import INK
from playground.figures.style import GREY, Style
from playground.figures.text import plain
from playground.results import Row

BAR, BETWEEN, LEAST = 15, 9, 120
"""Pixels: height of a bar, space between two names, and least height of a panel."""
PANEL = 260
MOST_COLUMNS, MOST_BARS = 3, 4
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
Tables = Mapping[str, Sequence[Row]]
"""Rows of each run, by its title."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Which columns of the rows are drawn."""

    values: Sequence[str]
    """A panel for each."""
    panel: str = ""
    """Column for whose every value the panels are repeated; empty: none."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Readable names of columns."""
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By value, the columns with reference values (null bands, chance, baselines) drawn beside it."""
    spread: Mapping[str, str] = field(default_factory=dict)
    """By value, the column with its standard deviation."""
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By value, the range of its axis."""
    order: Callable[[str], tuple[int, ...]] | None = None
    """Sorts the names along an axis; None: in the order of the rows, those of the first run first."""

    def title(self, column: str) -> str:
        return self.titles.get(column, column)

    def panels(self, tables: Tables) -> list[tuple[str, Any]]:
        """Every panel: its value, and the value of the column `panel`."""
        rows = [row for table in tables.values() for row in table]
        parts = list(dict.fromkeys(row.get(self.panel) for row in rows)) if self.panel else [None]
        return list(itertools.product(self.values, parts))

    def heading(self, value: str, part: Any) -> str:
        """The title of a panel."""
        return self.title(value) + (f", {self.panel} {part}" if isinstance(part, int) else f", {part}" if part else "")

    def names(self, column: str, rows: Sequence[Row]) -> list[Any]:
        """The different cells of a column, in their order."""
        found, order = list(dict.fromkeys(row[column] for row in rows)), self.order
        return found if order is None else sorted(found, key=lambda name: order(str(name)))

    def part_of(self, rows: Sequence[Row], part: Any) -> list[Row]:
        return [row for row in rows if part is None or row.get(self.panel) == part]


def number(value: Any) -> float:
    """A cell of a table as a number; NaN where there is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def bars_figure(tables: Tables, name: str, drawn: Drawn, *, style: Style = "screen") -> go.Figure:
    """A bar for each name (the column `name`) and run; whiskers are the spread, ticks the reference values."""
    names = [str(each) for each in drawn.names(name, [row for table in tables.values() for row in table])]
    panels = drawn.panels(tables)
    height = max(LEAST, len(names) * (BAR * max(1, len(tables)) + BETWEEN))
    grid = Grid([drawn.heading(*panel) for panel in panels], min(MOST_BARS, len(panels)), height, 0.04)
    grid.layout["scattermode"] = "group"  # places the ticks of reference values on the bars of their run
    for index, (value, part) in enumerate(panels):
        traces: list[dict[str, Any]] = []
        for at, (title, rows) in enumerate(tables.items()):
            shown = drawn.part_of(rows, part)
            spread = [number(row.get(drawn.spread.get(value, ""))) for row in shown]
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "x": [number(row.get(value)) for row in shown],
                    "y": [plain(str(row[name])) for row in shown],
                    "name": plain(title),
                    "legendgroup": plain(title),
                    "offsetgroup": str(at),
                    "marker": {"color": run_color(at)},
                    "hovertext": [_told(title, row, (name, value, *drawn.beside.get(value, ()))) for row in shown],
                    "hovertemplate": "%{hovertext}<extra></extra>",
                }
                | _whiskers(spread, "error_x")
            )
            traces += _ticks(shown, name, drawn, value, (at, len(tables)))
        x: dict[str, Any] = {"zeroline": True, "zerolinecolor": GREY, "zerolinewidth": 1.5, "nticks": 5}
        x |= {"range": drawn.limits[value]} if value in drawn.limits else {}
        labels = {"showticklabels": index % grid.columns == 0, "tickfont": {"size": 11}, "showgrid": False, "ticks": ""}
        order = {
            "type": "category",
            "autorange": "reversed",
            "categoryorder": "array",
            "categoryarray": [plain(each) for each in names],
        }
        grid.add(index, traces, x=x, y=labels | order)
    return grid.figure(style)


def lines_figure(
    tables: Tables,
    x: str,
    drawn: Drawn,
    *,
    series: str = "",
    by_panel: bool = False,
    style: Style = "screen",
) -> go.Figure:
    """Points joined by lines over the column `x`, a line for each run and each value of the column `series`.

    A colour is a run and a dash is a series; with `by_panel` each run has panels of its own, and a colour is a series.
    """
    groups = [{title: rows} for title, rows in tables.items()] if by_panel else [dict(tables)]
    panels = [(group, value, part) for value, part in drawn.panels(tables) for group in groups]
    titles = [", ".join(group) if by_panel else drawn.heading(value, part) for group, value, part in panels]
    grid = Grid(titles, 2 if len(panels) == 4 else min(MOST_COLUMNS, len(panels)), PANEL)
    every = [row for rows in tables.values() for row in rows]
    names = list(dict.fromkeys(row.get(series) for row in every)) if series else [None]
    for index, (group, value, part) in enumerate(panels):
        traces: list[dict[str, Any]] = []
        places = drawn.names(x, [row for rows in group.values() for row in rows])
        for title, rows in group.items():
            run = list(tables).index(title)
            for order, name in enumerate(names):
                shown = [row for row in drawn.part_of(rows, part) if name is None or row.get(series) == name]
                if shown:
                    color = run_color(order if by_panel else run)
                    label = str(name) if by_panel else title if name is None else f"{title}, {name}"
                    dash = "solid" if by_panel else DASHES[order % len(DASHES)]
                    traces += _line((label, color, dash), shown, x, drawn, value)
        x_axis: dict[str, Any] = {"title": {"text": plain(drawn.title(x))} if grid.is_low(index, len(panels)) else {}}
        if not all(isinstance(place, int | float) for place in places):
            order_of = [plain(str(place)) for place in places]
            x_axis |= {"type": "category", "categoryorder": "array", "categoryarray": order_of}
        elif len(places) <= 8 and all(isinstance(place, int) for place in places):
            x_axis |= {"tickvals": sorted(places), "range": [min(places) - 0.4, max(places) + 0.4]}
        y_axis: dict[str, Any] = {"title": {"text": plain(drawn.title(value))} if by_panel else {}}
        y_axis |= {"range": drawn.limits[value]} if value in drawn.limits else {}
        grid.add(index, traces, x=x_axis, y=y_axis)
    return grid.figure(style)


def _line(look: tuple[str, str, str], rows: Sequence[Row], x: str, drawn: Drawn, value: str) -> list[dict[str, Any]]:
    """One line with its markers, and thin dashed lines for its reference values."""
    label, color, dash = look
    at = [plain(cell) if isinstance(cell := row[x], str) else cell for row in rows]
    spread = [number(row.get(drawn.spread.get(value, ""))) for row in rows]
    beside = drawn.beside.get(value, ())
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(rows) <= 40 else "lines",
            "x": at,
            "y": [number(row.get(value)) for row in rows],
            "name": plain(label),
            "legendgroup": plain(label),
            "line": {"color": color, "width": 2.2, "dash": dash},
            "marker": {"size": 8, "color": color},
            "hovertext": [_told(label, row, (x, value, *beside)) for row in rows],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        | _whiskers(spread, "error_y")
    ]
    for order, name in enumerate(beside):
        values = [number(row.get(name)) for row in rows]
        if any(map(math.isfinite, values)):
            said = plain(f"{label}: {drawn.title(name)}")
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(rows) <= 40 else "lines",
                    "x": at,
                    "y": values,
                    "name": said,
                    "legendgroup": said,
                    "line": {"color": color, "width": 1.2, "dash": DASHES[1 + order % 4]},
                    "marker": {"size": 7, "symbol": "line-ew-open" if order == 0 else "x-thin-open", "color": color},
                    "hovertemplate": f"<b>{said}</b><br>%{{x}}: %{{y:.3f}}<extra></extra>",
                }
            )
    return traces


def _ticks(rows: Sequence[Row], name: str, drawn: Drawn, value: str, group: tuple[int, int]) -> list[dict[str, Any]]:
    """Reference values of one run as marks on its bars."""
    traces: list[dict[str, Any]] = []
    for order, column in enumerate(drawn.beside.get(value, ())):
        values = [number(row.get(column)) for row in rows]
        if any(map(math.isfinite, values)):
            said = plain(drawn.title(column))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "orientation": "h",
                    "x": values,
                    "y": [plain(str(row[name])) for row in rows],
                    "name": said,
                    "legendgroup": said,
                    "offsetgroup": str(group[0]),
                    "marker": {
                        "symbol": "line-ns" if order == 0 else "x-thin",
                        "size": max(8, BAR * group[1]),
                        "line": {"color": INK if group[1] == 1 else run_color(group[0]), "width": 2},
                    },
                    "hovertemplate": f"{said} %{{x:.3f}}<extra></extra>",
                }
            )
    return traces


def _whiskers(spread: Sequence[float], axis: str) -> dict[str, Any]:
    if not any(map(math.isfinite, spread)):
        return {}
    return {axis: {"type": "data", "array": list(spread), "color": INK, "thickness": 1.2, "width": 3}}


def _told(title: str, row: Row, columns: Sequence[str]) -> str:
    """The hover text of one row."""
    parts = [f"<b>{plain(title)}</b>"]
    for column in columns:
        value = row.get(column)
        text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        parts.append(f"{plain(column)}: {plain(text)}")
    return "<br>".join(parts)
