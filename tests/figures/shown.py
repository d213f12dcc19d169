"""What the suites of figures share: curves to draw, and the checks that every figure must pass."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from playground.figures.means import Curve

STYLES = ("screen", "paper")
LOOKS = {"screen": ("#737c85", "rgba(0, 0, 0, 0)"), "paper": ("black", "white")}
"""Text and background by style."""
TOKENS_A_STEP = 640


def curve(values: Sequence[float], *, n_future: int = 1, seed: int = 0, **changes: Any) -> Curve:
    """A curve with a value every 10 steps, `TOKENS_A_STEP` tokens each; the label is `n = ..`."""
    steps = np.asarray(changes.pop("steps", 10 * np.arange(len(values))), dtype=np.int64)
    parts: dict[str, Any] = {
        "run": f"run-n{n_future}-s{seed}",
        "label": f"n = {n_future}",
        "control": "layers",
        "steps": steps,
        "tokens": steps * TOKENS_A_STEP,
        "values": np.asarray(values, dtype=np.float64),
    }
    return Curve(n_future=n_future, seed=seed, **(parts | changes))


def dressed(figure: go.Figure, style: str = "screen") -> go.Figure:
    """Asserts that a figure is valid, survives JSON and wears its style; returns it."""
    go.Figure(figure.to_dict(), skip_invalid=False)
    text = pio.to_json(figure, validate=True)
    again = pio.from_json(text, skip_invalid=False)
    assert json.loads(pio.to_json(again)) == json.loads(text)
    template = figure.layout.template.layout
    assert (template.font.color, template.paper_bgcolor) == LOOKS[style]
    assert template.plot_bgcolor == template.paper_bgcolor
    return figure


def texts(figure: go.Figure) -> list[str]:
    """The texts of all annotations."""
    return [annotation.text for annotation in figure.layout.annotations]


def levels(figure: go.Figure) -> list[float]:
    """Heights of the horizontal lines across a figure, in order."""
    return [shape.y0 for shape in figure.layout.shapes if shape.type == "line" and shape.y0 == shape.y1]
