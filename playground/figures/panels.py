"""Layout of panels side by side, as plain dictionaries: a figure built from one is made ten times faster than by updates.

Live figures of a training are rebuilt every second, so the cost matters.
"""

from typing import Any

Layout = dict[str, Any]


def suffix(index: int) -> str:
    """The suffix of a panel's axes in plotly: empty, `2`, `3`, .."""
    return "" if index == 0 else str(index + 1)


def domain(index: int, count: int, gap: float) -> list[float]:
    """Start and end of panel `index` of `count` between 0 and 1, with a `gap` between two panels.

    >>> domain(0, 2, 0.2), domain(1, 2, 0.2)
    ([0.0, 0.4], [0.6, 1.0])
    """
    width = (1 - gap * (count - 1)) / count
    low = index * (width + gap)
    return [round(low, 6), round(low + width, 6)]


def place(index: int, row: int, col: int, shape: tuple[int, int], gaps: tuple[float, float]) -> Layout:
    """The two axes of a panel in a grid of `shape` (rows, columns), the first row at the top; `gaps` are shares."""
    at, (rows, columns), (row_gap, column_gap) = suffix(index), shape, gaps
    return {
        f"xaxis{at}": {"domain": domain(col, columns, column_gap), "anchor": f"y{at}"},
        f"yaxis{at}": {"domain": domain(rows - 1 - row, rows, row_gap), "anchor": f"x{at}"},
    }


def panel_title(index: int, text: str) -> Layout:
    """An annotation above a panel."""
    at = suffix(index)
    return {
        "text": text,
        "x": 0.5,
        "xref": f"x{at} domain",
        "xanchor": "center",
        "y": 1,
        "yref": f"y{at} domain",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13},
    }
