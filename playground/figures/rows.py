"""Figures of any result, made from `Result.rows()`: the form follows from the columns.

The first columns name the measured item, the others are its numbers:

    one column of attention heads          a heat map of layers and heads, with numbers above the null band
    one column of other names              bars
    one column of numbers (an offset)      points joined by lines
    two columns                            a heat map of both

Columns called after a null band, chance, baseline, ideal or uniform guess are drawn beside the number that they belong to, and
a spread or deviation as whiskers. Along a training there is a line for each item over the tokens trained on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from playground.figures.maps import HeatMap, head_map, maps_figure
from playground.figures.style import Style
from playground.figures.table_charts import Drawn, bars_figure, lines_figure, number
from playground.results import Head, History, Result, Row

BESIDE = ("null", "chance", "baseline", "ideal", "uniform", "control")
SPREAD = ("spread", "deviation", "error")
MOST_PANELS = 6
MOST_LINES = 8
"""Most items with a line along a training; those with the largest absolute last values."""
TOKENS, ITEM = "training tokens", "item"
"""Columns that are added to the rows of a history."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are."""

    keys: tuple[str, ...]
    """Those that name the measured item, at least one."""
    values: tuple[str, ...]
    """The measured numbers."""
    beside: Mapping[str, tuple[str, ...]]
    """By value, the columns of its reference values."""
    spread: Mapping[str, str]
    """By value, the column of its spread."""


def columns_of(rows: Sequence[Row]) -> Columns:
    """The columns of a table.

    >>> found = columns_of([{"offset": 1, "bits": 0.5, "chance": 2.0}, {"offset": 2, "bits": 1.5, "chance": 2.0}])
    >>> found.keys, found.values, found.beside
    (('offset',), ('bits',), {'bits': ('chance',)})
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    leading: list[str] = []
    for name in names:
        if any(isinstance(row.get(name), float) for row in rows):
            break
        leading.append(name)
    if len(leading) == len(names):  # without fractions: all but the first are numbers
        leading = names[:1] + [name for name in names[1:] if any(isinstance(row.get(name), str) for row in rows)]
    keys = names[:1]
    while len({tuple(row.get(key) for key in keys) for row in rows}) < len(rows) and len(keys) < len(leading):
        keys = leading[: len(keys) + 1]
    varying = tuple(key for key in keys if len({row.get(key) for row in rows}) > 1) or tuple(keys[:1])
    numbers = [
        name for name in names if name not in leading and any(math.isfinite(number(row.get(name))) for row in rows)
    ]
    beside = [name for name in numbers if any(word in name.lower() for word in BESIDE)]
    spreads = [name for name in numbers if any(word in name.lower() for word in SPREAD)]
    fractions = [name for name in numbers if any(isinstance(row.get(name), float) for row in rows)]
    values = tuple(name for name in fractions or numbers if name not in (*beside, *spreads)) or tuple(numbers)
    return Columns(
        keys=varying,
        values=values,
        beside={value: found for value in values if (found := _belonging(value, beside, values))},
        spread={value: name for name in spreads if (value := _before(name, names, values))},
    )


def _before(name: str, names: Sequence[str], values: Sequence[str]) -> str:
    """The last value whose column stands before the column `name`; empty if there is none."""
    return next((each for each in reversed(names[: names.index(name)]) if each in values), "")


def _belonging(value: str, beside: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    """The reference columns of a value: those that contain its first word, and those that contain no value's first word."""
    own = [name for name in beside if value.split()[0] in name.split()]
    of_all = [name for name in beside if not any(other.split()[0] in name.split() for other in values)]
    return tuple(own + of_all)


def rows_figure(results: Mapping[str, Result], *, value: str = "", style: Style = "screen") -> go.Figure:
    """The figure of one or several results of one probe, by the title of their runs, each at one step.

    `value` is the number of a heat map; empty: the first one.
    """
    tables = {title: result.rows() for title, result in results.items()}
    # A run with n = 1 may need fewer names for its items than one with n = 2.
    columns = max(map(columns_of, tables.values()), key=lambda found: len(found.keys))
    shown = value if value in columns.values else (columns.values or columns.keys)[0]
    first = columns.keys[0]
    names = [row[first] for rows in tables.values() for row in rows]
    drawn = Drawn(values=columns.values[:MOST_PANELS], beside=columns.beside, spread=columns.spread)
    if len(columns.keys) > 1:
        return _matrices(tables, columns, shown, style)
    if sum(_head(name) is not None for name in names) * 2 > len(names):
        return _of_heads(tables, columns, shown, style)
    if all(isinstance(name, int | float) for name in names):
        return lines_figure(tables, first, drawn, style=style)
    return bars_figure(tables, first, drawn, style=style)


def is_map(rows: Sequence[Row]) -> bool:
    """Whether `rows_figure` shows one number at a time."""
    columns = columns_of(rows)
    heads = sum(_head(row[columns.keys[0]]) is not None for row in rows)
    return len(columns.keys) > 1 or heads * 2 > len(rows)


def rows_along_figure(histories: Mapping[str, History[Result]], value: str, *, style: Style = "screen") -> go.Figure:
    """A line for each item along the training, a panel for each run; of many items the largest ones.

    Of the reference values of `value`, such as null bands, the largest over the drawn items is a line too.
    """
    tables = {
        title: [
            {TOKENS: tokens} | row
            for tokens, result in zip(history.tokens, history.results, strict=True)
            for row in result.rows()
        ]
        for title, history in histories.items()
    }
    shown = {title: _lines_of(rows, value) for title, rows in tables.items()}
    return lines_figure(shown, TOKENS, Drawn(values=[value]), series=ITEM, by_panel=True, style=style)


def _lines_of(rows: Sequence[Row], value: str) -> list[Row]:
    """The rows of one run's lines along a training, by `ITEM`: the largest items, and the largest of each reference value."""
    last = [row for row in rows if row[TOKENS] == rows[-1][TOKENS]] if rows else []
    columns = columns_of([{key: cell for key, cell in row.items() if key != TOKENS} for row in last])
    sizes = {item_name(row, columns.keys): abs(number(row.get(value))) for row in last}
    kept = sorted((item for item, size in sizes.items() if math.isfinite(size)), key=lambda item: -sizes[item])[
        :MOST_LINES
    ]
    named = [row | {ITEM: item_name(row, columns.keys)} for row in rows]
    lines = [row for row in named if row[ITEM] in kept]
    for name in columns.beside.get(value, ()):
        largest: dict[int | float, float] = {}
        for row in lines:
            largest[number(row[TOKENS])] = max(number(row.get(name)), largest.get(number(row[TOKENS]), -math.inf))
        lines += [{TOKENS: tokens, ITEM: f"{name}, largest", value: most} for tokens, most in largest.items()]
    return lines


def item_name(row: Row, keys: Sequence[str]) -> str:
    """One item in a legend: heads by their short names, numbers with their column's name."""
    return ", ".join(_cell(key, row.get(key)) for key in keys)


def _cell(key: str, value: str | int | float | None) -> str:
    head = _head(value)
    return head.short if head else str(value) if isinstance(value, str) else f"{key} {value}"


def _head(name: str | int | float | None) -> Head | None:
    try:
        return Head.parse(name) if isinstance(name, str) else None
    except ValueError:
        return None


def _of_heads(tables: Mapping[str, Sequence[Row]], columns: Columns, value: str, style: Style) -> go.Figure:
    """Layers and heads; rows that are no head, such as the ideal one, are told in the title."""
    maps: list[HeatMap] = []
    for title, rows in tables.items():
        of_heads = [(head, row) for row in rows if (head := _head(row[columns.keys[0]])) is not None]
        heads = [head for head, _ in of_heads]
        values = np.array([number(row.get(value)) for _, row in of_heads])
        others = [
            f"{row[columns.keys[0]]} {number(row.get(value)):.2f}"
            for row in rows
            if _head(row[columns.keys[0]]) is None
        ]
        bands = [
            max((number(row.get(name)) for name in columns.beside.get(value, ())), default=math.nan)
            for _, row in of_heads
        ]
        told = np.where(np.isnan(bands), True, np.abs(values) > np.array(bands))
        layers, cells = head_map(heads, values)
        _, marked = head_map(heads, told, False)
        maps.append(
            HeatMap(
                title=", ".join([title, *others]),
                x=[str(index) for index in range(cells.shape[1])],
                y=layers,
                values=cells,
                told=marked,
                x_title="attention head",
                y_title="layer",
            )
        )
    return maps_figure(maps, columns=2, bar=value, signed=_signed(maps), style=style)


def _matrices(tables: Mapping[str, Sequence[Row]], columns: Columns, value: str, style: Style) -> go.Figure:
    """The first key upwards, the second to the right; further keys are panels of their own."""
    low, across, *more = columns.keys
    maps: list[HeatMap] = []
    for title, rows in tables.items():
        parts = list(dict.fromkeys(tuple(row.get(key) for key in more) for row in rows))
        for part in parts:
            here = [row for row in rows if tuple(row.get(key) for key in more) == part]
            up, right = (list(dict.fromkeys(_short(key, row) for row in here)) for key in (low, across))
            cells = np.full((len(up), len(right)), np.nan)
            told = np.zeros(cells.shape, dtype=bool)
            for row in here:
                place = up.index(_short(low, row)), right.index(_short(across, row))
                bands = [number(row.get(name)) for name in columns.beside.get(value, ())]
                cells[place] = number(row.get(value))
                told[place] = all(not math.isfinite(band) or abs(cells[place]) > band for band in bands)
            name = ", ".join([title, *(str(each) for each in part if each not in ("", None))])
            maps.append(HeatMap(title=name, x=right, y=up, values=cells, told=told, x_title=across, y_title=low))
    return maps_figure(maps, columns=min(3, max(1, len(maps))), bar=value, signed=_signed(maps), style=style)


def _short(key: str, row: Row) -> str:
    head = _head(row.get(key))
    return head.short if head else str(row.get(key))


def _signed(maps: Sequence[HeatMap]) -> bool:
    return any(bool((item.values < 0).any()) for item in maps)
