"""How well each offset can be read after each layer: accuracy and loss from the embedding to the last layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, Style, apply_style, color_of
from playground.figures.text import plain
from playground.results import Lens, layer_title

FIELDS = {"accuracy": "accuracy on scored tokens", "loss": "loss (nats per token)"}
REFERENCES = {"accuracy": "chance, accuracy", "loss": "uniform guess, loss"}
MOST_COLUMNS = 4
PANEL, GAP = 190, 62
"""Pixels: height of a panel, and gap between two rows of panels."""
SHARE = 0.9
"""An offset counts as readable from the layer on at which accuracy stays at this share of the last layer's, or more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LensCurve:
    """The lens of one model, with the title and colour of its lines."""

    title: str
    n_future: int
    variant: int = 0
    """Index among the models with equal n_future in the figure; chooses the shade."""
    lens: Lens

    @property
    def depth(self) -> int:
        """Number of layers of the trunk."""
        return len(self.lens.sites) - 1


def lens_curves_figure(
    curves: Sequence[LensCurve],
    *,
    chance: Mapping[int, float] | None = None,
    uniform_loss: float | None = None,
    style: Style = "screen",
) -> go.Figure:
    """Accuracy above, loss below, a panel for each offset; solid lines through the future head, dotted lines directly.

    `chance` is the accuracy without learning the task, by offset; `uniform_loss` is the loss of the uniform guess, in nats.
    """
    offsets = max((curve.lens.loss.shape[1] for curve in curves), default=1)
    columns = min(MOST_COLUMNS, offsets)
    lines = -(-offsets // columns)
    depth = max((curve.depth for curve in curves), default=0)
    rows = 2 * lines
    plot_height = rows * PANEL + (rows - 1) * GAP
    layout: Layout = {"annotations": [], "shapes": [], "uirevision": "keep", "margin": {"t": 76, "b": 64}}
    layout |= {"height": plot_height + 140, "legend": {"y": 1 + 34 / plot_height}}
    ranges = {"accuracy": (-0.04, 1.04), "loss": _loss_range(curves, uniform_loss)}
    data: list[dict[str, Any]] = []
    for index, (field, offset) in enumerate((field, k) for field in FIELDS for k in range(1, offsets + 1)):
        row, col = (offset - 1) // columns + (lines if field == "loss" else 0), (offset - 1) % columns
        layout |= place(index, row, col, (rows, columns), (GAP / plot_height, 0.05))
        _label(layout, index, field, depth, is_left=col == 0, is_low=row == rows - 1)
        layout[f"yaxis{suffix(index)}"] |= {"range": ranges[field]}
        layout["annotations"].append(panel_title(index, f"offset {offset}"))
        at = suffix(index)
        lines_here = [line for curve in curves for line in _lines(curve, field, offset, depth)]
        drawn = list(lines_here)
        reference = uniform_loss if field == "loss" else (chance or {}).get(offset)
        if reference is not None:
            drawn.insert(0, _reference(reference, REFERENCES[field], depth))
        data += [line | {"xaxis": f"x{at}", "yaxis": f"y{at}"} for line in drawn]
        if not any(np.isfinite(line["y"]).any() for line in lines_here):
            layout["annotations"].append(_nothing(index))
    _name_once(data)
    return apply_style(go.Figure({"data": data, "layout": layout}), style)


def readable_from(accuracy: NDArray[np.float64], share: float = SHARE) -> int | None:
    """Index of the first layer from which on the accuracy stays at `share` of the last layer's, or more; None for NaN.

    >>> readable_from(np.array([0.1, 0.95, 0.2, 0.92, 1.0]))
    3
    """
    if not np.isfinite(accuracy).all():
        return None
    below = np.nonzero(accuracy < share * accuracy[-1])[0]
    return int(below[-1]) + 1 if len(below) else 0


def _loss_range(curves: Sequence[LensCurve], uniform_loss: float | None) -> tuple[float, float]:
    """A loss range for all panels: from 0, the ideal, to above the largest loss of any line."""
    drawn = [loss for curve in curves for loss in (curve.lens.loss, curve.lens.direct_loss)]
    largest = max((float(np.nanmax(loss)) for loss in drawn if np.isfinite(loss).any()), default=1.0)
    return -0.04 * max(largest, uniform_loss or 0), 1.06 * max(largest, uniform_loss or 0)


def _lines(curve: LensCurve, field: str, offset: int, depth: int) -> list[dict[str, Any]]:
    """The two lines of one model. The direct one has one more point after the future head: the model's own prediction."""
    through, direct = getattr(curve.lens, field), getattr(curve.lens, f"direct_{field}")
    if offset > through.shape[1]:
        return []
    sites = list(range(len(curve.lens.sites)))
    own = through[-1, offset - 1]
    title = plain(curve.title)
    names = ["embed", *(plain(layer_title(site)) for site in curve.lens.sites[1:])]
    color = color_of(curve.n_future, curve.variant)
    common = {"type": "scatter", "mode": "lines+markers", "hovertemplate": "%{hovertext}<extra></extra>"}
    drawn = [
        ("through its future head", sites, through[:, offset - 1], names, "solid", "circle"),
        (
            "directly",
            [*sites, depth + 1],
            np.append(direct[:, offset - 1], own),
            [*names, f"future head {offset}"],
            "dot",
            "circle-open",
        ),
    ]
    return [
        common
        | {
            "x": x,
            "y": y,
            "name": f"{title}, {way}",
            "legendgroup": f"{title}, {way}",
            "line": {"color": color, "width": 2.4 if dash == "solid" else 1.6, "dash": dash},
            "marker": {"symbol": symbol, "size": 7, "color": color},
            "hovertext": [
                f"<b>{title}</b><br>after {name}, {way}<br>offset {offset}, {FIELDS[field]}: {value:.3f}"
                for name, value in zip(layers, y, strict=True)
            ],
        }
        for way, x, y, layers, dash, symbol in drawn
    ]


def _label(layout: Layout, index: int, field: str, depth: int, *, is_left: bool, is_low: bool) -> None:
    """Sites along the bottom, the quantity at the side of the leftmost panels."""
    at = suffix(index)
    names = ["E", *(f"T{layer}" for layer in range(depth)), "F"]
    layout[f"xaxis{at}"] |= {"tickvals": list(range(depth + 2)), "ticktext": names, "range": [-0.3, depth + 1.3]}
    layout[f"xaxis{at}"] |= {"tickangle": 0} | ({"title": {"text": "read after"}} if is_low else {})
    layout[f"yaxis{at}"] |= {"title": {"text": FIELDS[field]}} if is_left else {"showticklabels": False}


def _name_once(data: Sequence[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for line in data:
        line["showlegend"] = line["legendgroup"] not in seen
        seen.add(line["legendgroup"])


def _nothing(index: int) -> dict[str, Any]:
    at = suffix(index)
    return {
        "text": "nothing<br>is scored<br>here",
        "x": 0.5,
        "xref": f"x{at} domain",
        "y": 0.5,
        "yref": f"y{at} domain",
        "showarrow": False,
        "font": {"size": 12, "color": GREY},
    }


def _reference(value: float, name: str, depth: int) -> dict[str, Any]:
    """A grey line across a panel; its name and value are in the legend."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-0.3, depth + 1.3],
        "y": [value, value],
        "name": f"{name} {value:.3g}",
        "legendgroup": f"{name} {value:.3g}",
        "line": {"color": GREY, "width": 1.3, "dash": "dash"},
        "hovertemplate": f"{name} {value:.3g}<extra></extra>",
        "legendrank": 2000,
    }
