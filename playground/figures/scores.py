"""A task's score along training, with chance and ceiling as lines."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from playground.figures.curves import Reference, curves_figure, span
from playground.figures.means import Curve, X
from playground.figures.style import Style
from playground.figures.text import plain
from playground.results import ScoreInfo

ROOM_FOR_UNIT = 320
"""From this height in pixels on figures write the unit along the axis."""


def readable(name: str) -> str:
    """A column's name as words: `repeat_accuracy` becomes `repeat accuracy`."""
    return name.replace("_", " ")


def score_figure(
    curves: Sequence[Curve], infos: Sequence[ScoreInfo], *, x: X = "tokens", height: int = 340, style: Style = "screen"
) -> go.Figure:
    """One score. `infos` gives the meaning of its values: one entry, or several if models of other tasks are shown too."""
    distinct = list(dict.fromkeys((info.chance, info.ceiling) for info in infos))
    references = [Reference(name="chance", value=chance) for chance in dict.fromkeys(pair[0] for pair in distinct)]
    references += [
        Reference(name="ceiling" if infos[0].higher_is_better else "floor", value=value, dash="longdash", side="left")
        for value in dict.fromkeys(pair[1] for pair in distinct)
    ]
    y_title = plain(readable(infos[0].name)) if infos else ""
    if infos and height >= ROOM_FOR_UNIT:
        y_title += f"<br>({plain(infos[0].unit)})"
    values = np.concatenate([curve.values[curve.measured] for curve in curves]) if curves else np.array([])
    ends = [float(values.min()), float(values.max())] if len(values) else []
    edges = [reference.value for reference in references]
    y_range = span([*edges, *ends]) if edges else None
    return curves_figure(
        curves, y_title=y_title, x=x, references=references, y_range=y_range, height=height, style=style
    )


def strongest_head_figure(
    curves: Sequence[Curve], *, null: float | None, x: X = "tokens", height: int = 340, style: Style = "screen"
) -> go.Figure:
    """The largest prefix-matching score over all attention heads: when it rises, an induction head forms."""
    references = [Reference(name="ideal head", value=1.0, dash="longdash", side="left")]
    if null is not None:
        references.append(Reference(name="null band", value=null))
    return curves_figure(
        curves,
        y_title="largest prefix matching",
        x=x,
        references=references,
        y_range=(-0.06, 1.06),
        height=height,
        style=style,
    )
