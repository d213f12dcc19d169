"""Training speed of runs: input tokens per second along training."""

from collections.abc import Sequence

import plotly.graph_objects as go

from playground.figures.curves import curves_figure
from playground.figures.means import Curve, X
from playground.figures.style import Style


def throughput_figure(
    curves: Sequence[Curve], *, x: X = "tokens", height: int = 340, style: Style = "screen"
) -> go.Figure:
    """Tokens/s of each run, with the vertical axis from zero, with the mean over seeds and its interval.

    Each curve is the rate of one model, also if one process trains several side by side.
    """
    highest = max((float(value) for curve in curves for value in curve.values if value == value), default=1.0)
    return curves_figure(curves, y_title="tokens/s", x=x, y_range=(0.0, 1.1 * highest), height=height, style=style)
