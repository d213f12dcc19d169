"""Style of all figures: one template, one colour for each n, one dash for each control.

Backgrounds are transparent and lines have a middle lightness, so that a figure is readable on a light and on a dark page.
`paper` has a white background and black text, for a figure in a document. Colours after Okabe and Ito (2008), which are
distinguishable with the common colour blindnesses.
"""

from functools import cache
from typing import Any, Literal

import plotly.graph_objects as go

Style = Literal["screen", "paper"]
ImageFormat = Literal["png", "svg"]

COLORS = {
    1: "#2b83c4",
    2: "#d9660a",
    3: "#8a6fc2",
    4: "#0f9d74",
    8: "#c2549b",
    16: "#a8860b",
    32: "#b03a2e",
}
"""Line colour by n_future; larger n repeat these colours in turn."""
GREY = "#808890"
DASHES = {"layers": "solid", "trunk": "dash", "flops": "dot", "detached": "longdash"}
"""Line dash by control."""
SCALE = "Viridis"
"""Colours of scores and attention from 0 to 1: perceptually uniform, and readable with colour blindness."""


def color_of(n_future: int, variant: int = 0) -> str:
    """Line colour of an n; `variant` 1, 2, .. chooses another shade, for several models with equal n and control."""
    color = COLORS.get(n_future) or list(COLORS.values())[n_future % len(COLORS)]
    share = min(variant, 2) * 0.38
    mixed = [round((1 - share) * int(color[i : i + 2], 16) + share * 128) for i in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def dash_of(control: str) -> str:
    """Line dash of a control."""
    return DASHES.get(control, "dashdot")


def see_through(color: str, alpha: float) -> str:
    """A `#rrggbb` colour as rgba with the opacity `alpha`."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def apply_style(figure: go.Figure, style: Style = "screen") -> go.Figure:
    """Apply the template to a figure, in place; returns the figure."""
    return figure.update_layout(template=_template(style))


def chart_config(name: str, image_format: ImageFormat = "png") -> dict[str, Any]:
    """Settings of plotly's tool bar: its camera saves `name` as PNG (three times the screen resolution) or SVG."""
    return {
        "displaylogo": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        "toImageButtonOptions": {"format": image_format, "filename": name, "scale": 3 if image_format == "png" else 1},
    }


@cache
def _template(style: Style) -> go.layout.Template:
    text = "black" if style == "paper" else "#737c85"
    background = "white" if style == "paper" else "rgba(0, 0, 0, 0)"
    axis = {
        "gridcolor": "rgba(128, 136, 144, 0.25)",
        "linecolor": "rgba(128, 136, 144, 0.6)",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "rgba(128, 136, 144, 0.6)",
        "automargin": True,
        "title": {"standoff": 8},
    }
    layout = go.Layout(
        font={"size": 13, "color": text},
        paper_bgcolor=background,
        plot_bgcolor=background,
        xaxis=axis,
        yaxis=axis,
        colorway=list(COLORS.values()),
        margin={"l": 60, "r": 16, "t": 40, "b": 48},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
    return go.layout.Template(layout=layout)
