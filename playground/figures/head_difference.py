"""Difference of the scores of two runs, head by head.

Heads with the same index in two runs are unrelated: the initial weights decide which head takes which role. So heads are paired
by rank, within each layer the strongest with the strongest; pairing by index is meaningful only if both runs began with the
same weights. Layers are paired by name: trunk 0 with trunk 0, future head k with future head k.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from playground.figures.head_cells import Cells, spread
from playground.figures.text import plain
from playground.results import AttentionScores, Head, score_title

Pairing = Literal["rank", "number"]


def shared_layers(left: AttentionScores, right: AttentionScores) -> tuple[str, ...]:
    """Layers that both runs have."""
    return tuple(layer for layer in left.layers if layer in right.layers)


def difference_cells(
    left: AttentionScores, right: AttentionScores, name: str, layers: Sequence[str], *, pairing: Pairing = "rank"
) -> Cells:
    """`right` minus `left` in the rows `layers`; blank where either run lacks the layer.

    A cell contains a number if at least one of the two heads exceeds its null band.
    """
    shared = shared_layers(left, right)
    n_heads = min(left.score(name).shape[1], right.score(name).shape[1])
    values = np.full((len(shared), n_heads), np.nan)
    told = np.zeros(values.shape, dtype=bool)
    hover = np.full(values.shape, "", dtype=object)
    for row, layer in enumerate(shared):
        ours, theirs = (_ordered(scores, name, layer, pairing)[:n_heads] for scores in (left, right))
        for column, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            (a, a_null), (b, b_null) = (_value(*pair) for pair in ((left, name, one), (right, name, other)))
            values[row, column] = b - a
            told[row, column] = a > a_null or b > b_null
            hover[row, column] = (
                f"<b>{plain(other.short)} right − {plain(one.short)} left</b><br>{plain(score_title(name))} "
                f"{b:.3f} − {a:.3f} = {b - a:+.3f}<br>null bands (99%) {b_null:.3f} and {a_null:.3f}"
            )
    rows = [shared.index(layer) if layer in shared else None for layer in layers]
    return Cells(
        layers=tuple(layers),
        values=spread(values, rows, np.nan),
        told=spread(told, rows, False),
        hover=spread(hover, rows, ""),
        signed=True,
    )


def _ordered(scores: AttentionScores, name: str, layer: str, pairing: Pairing) -> list[Head]:
    """The heads of a layer, in the order in which they are paired."""
    values = np.nan_to_num(scores.score(name)[scores.layers.index(layer)], nan=-1.0)
    order = np.argsort(-values, kind="stable") if pairing == "rank" else range(len(values))
    return [Head(layer, int(index)) for index in order]


def _value(scores: AttentionScores, name: str, head: Head) -> tuple[float, float]:
    """Score and null band of one head."""
    row = scores.layers.index(head.layer)
    return float(scores.score(name)[row, head.index]), float(scores.null(name)[row, head.index])
