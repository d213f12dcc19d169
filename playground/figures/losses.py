"""Loss along training, a panel for each offset and for each other loss of the objective."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from playground.figures.curves import curves_figure
from playground.figures.means import Curve, X
from playground.figures.style import Style

NATS_PER_BIT = math.log(2)
MOST_OFFSETS = 10**9
"""More than any offset."""


def offset_name(offset: int) -> str:
    """Name of an offset: `offset 1 (next token)`, `offset 2`, .."""
    return "offset 1 (next token)" if offset == 1 else f"offset {offset}"


def panel_name(loss: str) -> str:
    """Name of the panel of a loss, from what follows `loss_` in its name.

    >>> panel_name("2"), panel_name("set_of_next")
    ('offset 2', 'set of next')
    """
    return offset_name(int(loss)) if loss.isdigit() else loss.replace("_", " ")


def panel_order(panel: str) -> tuple[int, str]:
    """Key that sorts panels: offsets by their number, then the other losses by name."""
    words = panel.split()
    known = panel.startswith("offset ") and words[1].isdigit()
    return (int(words[1]), "") if known else (MOST_OFFSETS, panel)


def loss_figure(
    curves: Sequence[Curve],
    *,
    quantity: str = "test loss",
    unit: str = "nats per token",
    x: X = "tokens",
    height: int = 340,
    style: Style = "screen",
) -> go.Figure:
    """Loss per offset; the `panel` of each curve is the name of its offset, or of another loss of the objective."""
    return curves_figure(curves, y_title=f"{quantity} ({unit})", x=x, height=height, style=style)
