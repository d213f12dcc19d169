"""Rows -> plotly figures: measurements as dots or bars with their spread, with targets and floors.

A row's fields decide how it is drawn, not the benchmark's name (docs/reference/benchmarks.md). Rows with a `floor` are bars
next to it, rows with a `ratio` dots, and rows with only a `value` dots in its unit.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from playground.figures.style import COLORS, GREY, apply_style, color_of

Row = dict[str, Any]
MEASURED = ("value", "ratio", "unit", "repeats", "skipped")
"""The fields before the first of these identify the case of a row."""
NO_CASE = ("module", "benchmark", "seed", "seeds", "run")
ROW_HEIGHT, FRAME = 30, 110
"""Pixels."""
COLORWAY = list(COLORS.values())
DARK = "#1f2933"
TARGET = "#b03a2e"


def case_of(row: Row) -> Row:
    """The fields of a row that identify its case, in their order."""
    found: Row = {}
    for name, value in row.items():
        if name in MEASURED:
            break
        if name not in NO_CASE and isinstance(value, str | int | float):
            found[name] = value
    return found


def constants(rows: Sequence[Row]) -> Row:
    """The fields with one value in all cases; empty for a single case."""
    cases = [case_of(row) for row in rows]
    if len(cases) < 2:
        return {}
    return {name: value for name, value in cases[0].items() if all(case.get(name) == value for case in cases)}


def labels(rows: Sequence[Row]) -> list[str]:
    """Names of the cases, made from the fields that differ between them.

    >>> labels([{"size": "1M", "n_future": 1, "value": 3}, {"size": "1M", "n_future": 4, "value": 5}])
    ['n = 1', 'n = 4']
    """
    common = constants(rows)
    return [
        ", ".join(worded(name, value) for name, value in case_of(row).items() if name not in common) or "all"
        for row in rows
    ]


def worded(name: str, value: Any) -> str:
    """A field of a case in words.

    >>> worded("n_future", 4), worded("size", "30M"), worded("against", "plain GPT"), worded("rows", 16)
    ('n = 4', '30M', 'against plain GPT', 'rows 16')
    """
    if name == "n_future":
        return f"n = {value}"
    if name == "against":
        return f"against {value}"
    return str(value) if isinstance(value, str) else f"{name.replace('_', ' ')} {value}"


def figure(rows: Sequence[Row]) -> go.Figure | None:
    """The figure of one benchmark on one machine; None if no row has a value or a ratio."""
    for wanted, draw in (("floor", floor_figure), ("ratio", ratio_figure), ("value", value_figure)):
        if drawn := [row for row in rows if row.get(wanted) is not None]:
            return draw(drawn)
    return None


def ratio_figure(rows: Sequence[Row]) -> go.Figure:
    """Ratios with their spread, and each row's target."""
    drawn, names = go.Figure(), labels(rows)
    _dots(drawn, rows, names, "ratio")
    _targets(drawn, names, [row.get("target") for row in rows])
    drawn.update_xaxes(title_text="ratio", rangemode="tozero")
    return _finished(drawn, names)


def floor_figure(rows: Sequence[Row]) -> go.Figure:
    """Bars in the measured unit, with the floor as 100% and targets as shares of it."""
    drawn, names = go.Figure(), labels(rows)
    unit, floor, called = rows[0]["unit"], rows[0]["floor"], rows[0].get("floor_is", "floor")
    drawn.add_bar(
        x=[row["value"] for row in rows],
        y=names,
        orientation="h",
        marker_color=_colors(rows),
        width=0.6,
        error_x=_spread(rows, "value"),
        text=[f" {row['value'] / row['floor']:.0%}" for row in rows],
        textposition="auto",
        insidetextanchor="start",
        insidetextfont_color="white",
        name="measured",
        showlegend=False,
    )
    _targets(drawn, names, [row["floor"] * row["target"] if row.get("target") else None for row in rows])
    drawn.add_vline(floor, line={"color": DARK, "width": 1.5, "dash": "dash"})
    drawn.add_annotation(
        x=floor,
        y=1,
        yref="paper",
        text=f"measured {called}: {floor:,.4g} {unit} = 100%",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        font_color=DARK,
    )
    drawn.update_xaxes(title_text=unit, rangemode="tozero")
    return _finished(drawn, names)


def value_figure(rows: Sequence[Row]) -> go.Figure:
    """Values, with a panel for each unit."""
    units = list(dict.fromkeys(row["unit"] for row in rows))
    drawn, names = make_subplots(cols=len(units), horizontal_spacing=0.28 / len(units)), labels(rows)
    for column, unit in enumerate(units, start=1):
        own = [(row, name) for row, name in zip(rows, names, strict=True) if row["unit"] == unit]
        panel, panel_names = [row for row, _ in own], [name for _, name in own]
        _dots(drawn, panel, panel_names, "value", column)
        _targets(drawn, panel_names, [row.get("target") for row in panel], column)
        drawn.update_xaxes(title_text=unit, rangemode="tozero", col=column)
    return _finished(drawn, names)


def _dots(drawn: go.Figure, rows: Sequence[Row], names: list[str], field: str, column: int | None = None) -> None:
    trace = go.Scatter(
        x=[row[field] for row in rows],
        y=names,
        mode="markers",
        name="measured",
        showlegend=False,
        marker={"size": 10, "color": _colors(rows)},
        error_x=_spread(rows, field),
    )
    drawn.add_trace(trace, row=column and 1, col=column)


def _targets(drawn: go.Figure, names: list[str], targets: list[float | None], column: int | None = None) -> None:
    """Draw a stroke across each row that has a target."""
    wanted = [(target, name) for target, name in zip(targets, names, strict=True) if target is not None]
    if not wanted:
        return
    trace = go.Scatter(
        x=[target for target, _ in wanted],
        y=[name for _, name in wanted],
        mode="markers",
        name="target",
        marker={"symbol": "line-ns", "size": 22, "line": {"width": 2.5, "color": TARGET}, "color": TARGET},
    )
    drawn.add_trace(trace, row=column and 1, col=column)


def _colors(rows: Sequence[Row]) -> list[str]:
    """Colours by baseline if there are several, else by n."""
    others = list(dict.fromkeys(row["against"] for row in rows if "against" in row))
    if len(others) > 1:
        return [COLORWAY[others.index(row["against"]) % len(COLORWAY)] if "against" in row else GREY for row in rows]
    return [color_of(row.get("n_future", 1)) for row in rows]


def _spread(rows: Sequence[Row], field: str) -> dict[str, Any]:
    """Error bars from the quartiles, or else from the lowest to the highest value."""
    lows = [row.get(f"{field}_quartile_low", row.get(f"{field}_lowest", row[field])) for row in rows]
    highs = [row.get(f"{field}_quartile_high", row.get(f"{field}_highest", row[field])) for row in rows]
    return {
        "type": "data",
        "symmetric": False,
        "color": GREY,
        "thickness": 1.5,
        "width": 5,
        "array": [high - row[field] for high, row in zip(highs, rows, strict=True)],
        "arrayminus": [row[field] - low for low, row in zip(lows, rows, strict=True)],
    }


def _finished(drawn: go.Figure, names: list[str]) -> go.Figure:
    drawn.update_yaxes(autorange="reversed", showgrid=False)
    drawn.update_layout(height=FRAME + ROW_HEIGHT * len(names), margin={"t": 44, "r": 30})
    return apply_style(drawn, "paper")
