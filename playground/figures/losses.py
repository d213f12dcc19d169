"""Loss along training, a panel for each offset."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from playground.figures.curves import curves_figure
from playground.figures.means import Curve, X
from playground.figures.style import Style

NATS_PER_BIT = math.log(2)


def offset_name(offset: int) -> str:
    """Name of an offset: `offset 1 (next token)`, `offset 2`, .."""
    return "offset 1 (next token)" if offset == 1 else f"offset {offset}"


def loss_figure(
    curves: Sequence[Curve],
    *,
    quantity: str = "test loss",
    unit: str = "nats per token",
    x: X = "tokens",
    height: int = 340,
    style: Style = "screen",
) -> go.Figure:
    """Loss per offset; the `panel` of each curve is the name of its offset."""
    return curves_figure(curves, y_title=f"{quantity} ({unit})", x=x, height=height, style=style)
