"""Figures of ablations: loss and accuracy of each offset before and after, and the effect of each part alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from playground.figures.head_colors import INK, head_color, offset_color
from playground.figures.panels import Layout
from playground.figures.style import GREY, Style, apply_style, see_through
from playground.figures.text import plain
from playground.results import AblationEffects, Head
from playground.results.base import measured_mean

ROW, BAR = 50, 17
"""Pixels: height of an offset's row, and of a bar."""
MARGIN = {"t": 30, "b": 84, "l": 66, "r": 14}
BETWEEN = 74
"""Pixels between the two panels."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Reference values drawn next to the accuracy: chance and ceiling."""

    chance: float | None = None
    """Accuracy without learning the task; None if the task's headline score is no accuracy."""
    ceiling: float = 1.0


def before_after_figure(
    effect: AblationEffects,
    *,
    controls: Mapping[int, AblationEffects] | None = None,
    limits: Limits | None = None,
    style: Style = "screen",
) -> go.Figure:
    """A row for each offset: whole model -> without the ablated parts. `effect` must hold them as its only component.

    `controls` holds by offset the draws of as many random other heads, one draw per component: the effect of ablating any
    heads.
    """
    limits, controls = limits or Limits(), controls or {}
    n_offsets = effect.clean_loss.shape[1]
    height = 2 * ROW * n_offsets + BETWEEN
    share = ROW * n_offsets / height
    layout: Layout = {"shapes": [], "annotations": [_key(bool(controls))], "showlegend": False, "margin": MARGIN}
    layout |= {"height": height + MARGIN["t"] + MARGIN["b"]}
    quantities = [
        ("accuracy", "accuracy on scored tokens", [1 - share, 1.0]),
        ("loss", "loss, nats per token, all targets", [0.0, share]),
    ]
    traces: list[dict[str, Any]] = []
    for index, (quantity, title, domain) in enumerate(quantities):
        at = "" if index == 0 else "2"
        layout[f"xaxis{at}"] = {
            "anchor": f"y{at}",
            "title": {"text": title, "standoff": 4, "font": {"size": 12}},
            "nticks": 6,
        }
        layout[f"yaxis{at}"] = {
            "anchor": f"x{at}",
            "domain": domain,
            "range": [n_offsets - 0.45, -0.75],
            "showgrid": False,
            "ticks": "",
            "tickvals": list(range(n_offsets)),
            "ticktext": [f"offset {k + 1}" for k in range(n_offsets)],
        }
        axes = {"xaxis": f"x{at}", "yaxis": f"y{at}"}
        traces += [trace | axes for trace in _dumbbells(effect, controls, quantity)]
        _texts(layout, effect, quantity, at)
        if quantity == "accuracy":
            layout["xaxis"]["range"] = [-0.04, 1.04]
            _limits(layout, limits, n_offsets)
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def alone_figure(effects: AblationEffects, offset: int = 1, *, style: Style = "screen") -> go.Figure:
    """A bar for each component ablated alone: change in accuracy and in loss of one offset, with the spread over batches.

    Raises ValueError for an offset that was not measured.
    """
    n_offsets = effects.clean_loss.shape[1]
    if not 1 <= offset <= n_offsets:
        raise ValueError(f"offset is {offset}, and 1 to {n_offsets} were measured")
    names = [plain(component_title(name)) for name in effects.components]
    layout: Layout = {"showlegend": False, "margin": {"t": 30, "b": 52, "l": 66, "r": 14}, "bargap": 0.25}
    layout |= {"height": BAR * len(names) + 30 + 52}
    traces: list[dict[str, Any]] = []
    colors = [_component_color(name) for name in effects.components]
    for index, (quantity, unit) in enumerate((("accuracy", "scored tokens"), ("loss", "nats per token"))):
        at = "" if index == 0 else "2"
        change = getattr(effects, f"{quantity}_change")[:, offset - 1]
        spread = getattr(effects, f"{quantity}_spread")[:, offset - 1]
        clean = float(measured_mean(getattr(effects, f"clean_{quantity}")[:, offset - 1]))
        layout[f"xaxis{at}"] = {
            "anchor": f"y{at}",
            "domain": [0, 0.48] if index == 0 else [0.52, 1],
            "nticks": 5,
            "zeroline": True,
            "zerolinecolor": GREY,
            "zerolinewidth": 1.5,
            "title": {"text": f"change in {quantity}<br>({unit}; whole model {clean:.3g})", "font": {"size": 12}},
        }
        layout[f"yaxis{at}"] = {
            "anchor": f"x{at}",
            "range": [len(names) - 0.4, -0.6],
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "showticklabels": index == 0,
            "showgrid": False,
            "ticks": "",
            "tickfont": {"size": 11},
        } | ({"matches": "y"} if index else {})
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": change,
                "y": list(range(len(names))),
                "marker": {"color": colors},
                "error_x": {"type": "data", "array": spread, "color": INK, "thickness": 1.2, "width": 3},
                "customdata": np.stack([np.array(names, dtype=object), spread], axis=1),
                "hovertemplate": f"<b>without %{{customdata[0]}}</b><br>{quantity} of offset {offset} %{{x:+.4f}} ± "
                "%{customdata[1]:.4f} (standard deviation over batches)<extra></extra>",
                "xaxis": f"x{at}",
                "yaxis": f"y{at}",
            }
        )
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def component_title(name: str) -> str:
    """Name of a component on an axis: `T0.1` a head, `T0 MLP`, `F1 attention`, `T0` a whole layer.

    >>> [component_title(name) for name in ("blocks.0.1", "blocks.0.mlp", "future_heads.1.attn", "blocks.2")]
    ['T0.1', 'T0 MLP', 'F2 attention', 'T2']
    """
    layer, _, part = name.rpartition(".")
    if part.isdigit() and "." in layer:
        return Head(layer, int(part)).short
    if part.isdigit():
        return Head(name, 0).short.partition(".")[0]
    return f"{Head(layer, 0).short.partition('.')[0]} {'MLP' if part == 'mlp' else 'attention'}"


def _dumbbells(effect: AblationEffects, controls: Mapping[int, AblationEffects], quantity: str) -> list[dict[str, Any]]:
    clean = measured_mean(getattr(effect, f"clean_{quantity}"), axis=0)
    change = getattr(effect, f"{quantity}_change")[0]
    spread = getattr(effect, f"{quantity}_spread")[0]
    rows = np.arange(len(clean))
    after = clean + change
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [before, now],
            "y": [row, row],
            "hoverinfo": "skip",
            "line": {"color": see_through(offset_color(row + 1), 0.6), "width": 4},
        }
        for row, before, now in zip(rows.tolist(), clean, after, strict=True)
    ]
    traces += [_control(control, offset, quantity) for offset, control in controls.items()]
    colors = [offset_color(row + 1) for row in rows.tolist()]
    told = [
        f"<b>offset {row + 1}</b>, {quantity}<br>whole model {before:.4f}<br>without the parts {now:.4f}<br>change "
        f"{now - before:+.4f} ± {wide:.4f} (standard deviation over {len(effect.clean_loss)} batches)"
        for row, before, now, wide in zip(rows, clean, after, spread, strict=True)
    ]
    common = {"type": "scatter", "y": rows, "hovertext": told, "hovertemplate": "%{hovertext}<extra></extra>"}
    ring = {"symbol": "circle-open", "size": 12, "color": colors, "line": {"width": 2.5}}
    before = {"mode": "markers", "x": clean, "marker": ring}
    now = {
        "mode": "markers",
        "x": after,
        "marker": {"symbol": "circle", "size": 11, "color": colors},
        "error_x": {"type": "data", "array": spread, "color": INK, "thickness": 1.4, "width": 4},
    }
    return [*traces, common | before, common | now]


def _texts(layout: Layout, effect: AblationEffects, quantity: str, at: str) -> None:
    """The numbers above each row, as text."""
    clean = measured_mean(getattr(effect, f"clean_{quantity}"), axis=0)
    change, spread = getattr(effect, f"{quantity}_change")[0], getattr(effect, f"{quantity}_spread")[0]
    for row, (before, rise, wide) in enumerate(zip(clean, change, spread, strict=True)):
        text = f"{before:.3f} → {before + rise:.3f} ({rise:+.3f} ± {wide:.3f})".replace("-", "−")
        layout["annotations"].append(
            {
                "text": text if np.isfinite(rise) else "no token of these rows is scored at this offset",
                "x": 0.5,
                "xref": f"x{at} domain",
                "xanchor": "center",
                "y": row - 0.16,
                "yref": f"y{at}",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        )


def _control(control: AblationEffects, offset: int, quantity: str) -> dict[str, Any]:
    """A tick for each draw of random other heads."""
    values = measured_mean(getattr(control, quantity)[:, :, offset - 1], axis=1)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": [offset - 1 + 0.24] * len(values),
        "marker": {"symbol": "line-ns-open", "size": 10, "color": INK, "line": {"width": 1.6}},
        "hovertext": [
            f"control: without {_set_title(names)}<br>offset {offset}, {quantity} {value:.4f}"
            for names, value in zip(control.components, values, strict=True)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _set_title(component: str) -> str:
    return ", ".join(plain(component_title(name)) for name in component.split(" + "))


def _limits(layout: Layout, limits: Limits, n_offsets: int) -> None:
    """Lines at chance and ceiling, named above the first row."""
    marks: Sequence[tuple[str, float | None]] = (("chance", limits.chance), ("ceiling", limits.ceiling))
    for name, value in marks:
        if value is None:
            continue
        for row in range(n_offsets):  # only at the height of the marks, so that it crosses no number
            layout["shapes"].append(
                {
                    "type": "line",
                    "xref": "x",
                    "yref": "y",
                    "x0": value,
                    "x1": value,
                    "y0": row - 0.14,
                    "y1": row + 0.42,
                    "line": {"color": GREY, "width": 1.3, "dash": "dot" if name == "chance" else "solid"},
                }
            )
        layout["annotations"].append(
            {
                "text": f"{name} {value:.2g}",
                "x": value,
                "xref": "x",
                "y": 1,
                "yref": "y domain",
                "yanchor": "bottom",
                "xanchor": "center" if value < 0.9 else "right",
                "showarrow": False,
                "font": {"size": 11, "color": GREY},
            }
        )


def _key(controlled: bool) -> dict[str, Any]:
    text = "○ whole model&nbsp; ● without the parts, ± spread over batches"
    if controlled:
        text += "<br>| control: as many random other heads, one tick a draw"
    return {
        "text": text,
        "xref": "paper",
        "x": 0,
        "xshift": 8 - MARGIN["l"],
        "xanchor": "left",
        "yref": "paper",
        "y": 0,
        "yshift": 4 - MARGIN["b"],
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
        "align": "left",
    }


def _component_color(name: str) -> str:
    layer, _, part = name.rpartition(".")
    return head_color(Head(layer, 0)) if part.isdigit() else GREY
