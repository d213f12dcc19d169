"""Heat maps of probes: scores, composition, copying and patching, by attention head or by pair of heads. One row per run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.formation import Formed, formation_figure
from playground.figures.maps import HeatMap, head_map, maps_figure
from playground.figures.style import Style
from playground.results import (
    AttentionHistory,
    AttentionScores,
    Composition,
    Copying,
    Head,
    HeadPatching,
    InductionAfterAblation,
    PathPatching,
    score_title,
)

SCORES = ("prefix_matching", "previous_token", "duplicate_token")
CLEAR = 0.1
"""Effects of at least this size carry a number, where the result has no null band."""


def attention_figure(results: Mapping[str, AttentionScores], style: Style = "screen") -> go.Figure:
    """Induction, previous-token and duplicate-token score of every head; numbers are above the head's own null band."""
    maps = [
        _by_head(f"{score_title(name)}: {title}", found.heads, found.score(name).ravel(), found.null(name).ravel())
        for title, found in results.items()
        for name in SCORES
    ]
    return maps_figure(maps, columns=len(SCORES), bar="score", limit=1.0, style=style)


def attention_along_figure(histories: Mapping[str, AttentionHistory], value: str, style: Style = "screen") -> go.Figure:
    """The chosen score of every head along the training; a line in the grey band is no better than chance."""
    last = next(iter(histories.values())).results[-1]
    name = next((name for name in last.names if score_title(name) == value), "prefix_matching")
    return formation_figure([Formed(title=title, history=each) for title, each in histories.items()], name, style=style)


def composition_maps_figure(results: Mapping[str, Composition], style: Style = "screen") -> go.Figure:
    """Q-, K- and V-composition of all pairs of heads; numbers are above the pair's null band."""
    maps = [
        _by_pair(f"{kind.upper()}: {title}", found.senders, found.receivers, getattr(found, kind), found.band(kind))
        for title, found in results.items()
        for kind in "qkv"
    ]
    return maps_figure(maps, columns=3, bar="above random", signed=True, style=style)


def copying_figure(results: Mapping[str, Copying], style: Style = "screen") -> go.Figure:
    """Eigenvalue scores of every head, directly and through each head of the future heads; numbers are above the null band."""
    maps: list[HeatMap] = []
    for title, found in results.items():
        band, through = found.direct_eigenvalues_null, found.through_eigenvalues_null
        maps.append(
            _by_head(
                f"directly: {title}",
                found.heads,
                found.direct_eigenvalues,
                np.full(len(found.heads), np.nan) if band is None else band,
            )
        )
        trunk = [index for index in range(len(found.heads)) if np.isfinite(found.through_eigenvalues[index]).any()]
        values = found.through_eigenvalues[trunk]
        none = np.full(values.shape, np.nan)
        senders = [found.heads[index] for index in trunk]
        own = none if through is None else through[trunk]
        maps.append(_by_pair(f"through a future head: {title}", senders, found.via, values, own))
    return maps_figure(maps, columns=2, bar="copying", signed=True, limit=1.0, style=style)


def induction_after_ablation_figure(
    results: Mapping[str, InductionAfterAblation], style: Style = "screen"
) -> go.Figure:
    """Change of every head's induction score while an earlier head is ablated; numbers are changes of 0.1 or more."""
    maps: list[HeatMap] = []
    for title, found in results.items():
        change = found.after - found.before
        can_read = np.array([[head.comes_after(gone, found.paths) for head in found.heads] for gone in found.ablated])
        change = np.where(can_read.reshape(change.shape), change, np.nan)
        maps.append(_by_pair(title, found.ablated, found.heads, change, None, ("ablated head", "its induction score")))
    return maps_figure(maps, columns=2, bar="change", signed=True, style=style)


def head_patching_figure(results: Mapping[str, HeadPatching], style: Style = "screen") -> go.Figure:
    """Mean recovery by patching each head's output; numbers are recoveries of 0.1 or more, in either direction."""
    maps = [_by_head(title, found.heads, found.recovery.mean(axis=0), None) for title, found in results.items()]
    return maps_figure(maps, columns=2, bar="recovery", signed=True, limit=1.0, style=style)


def path_patching_figure(results: Mapping[str, PathPatching], style: Style = "screen") -> go.Figure:
    """Direct effect of each sender on the queries, keys and values of each receiver, and on the logits."""
    maps: list[HeatMap] = []
    for title, found in results.items():
        maps += [
            _by_pair(
                f"{name}: {title}", found.senders, found.receivers, getattr(found, kind), None, ("sender", "receiver")
            )
            for kind, name in (("q", "queries"), ("k", "keys"), ("v", "values"))
        ]
        senders = [head.short for head in found.senders]
        maps.append(
            HeatMap(
                title=f"logits: {title}",
                x=["logits"],
                y=senders,
                values=found.to_logits[:, None],
                told=np.abs(found.to_logits[:, None]) >= CLEAR,
                y_title="sender",
            )
        )
    return maps_figure(maps, columns=4, bar="effect", signed=True, style=style)


def _by_head(
    title: str, heads: Sequence[Head], values: NDArray[np.float64], band: NDArray[np.float64] | None
) -> HeatMap:
    layers, cells = head_map(heads, values)
    told = np.abs(values) >= CLEAR if band is None else values > band
    marked: Any = head_map(heads, told, False)[1]
    return HeatMap(
        title=title,
        x=[str(index) for index in range(cells.shape[1])],
        y=layers,
        values=cells,
        told=marked,
        x_title="attention head",
        y_title="layer",
    )


def _by_pair(
    title: str,
    senders: Sequence[Head],
    receivers: Sequence[Head],
    values: NDArray[np.float64],
    band: NDArray[np.float64] | None,
    axes: tuple[str, str] = ("sender", "receiver"),
) -> HeatMap:
    told = np.abs(values) >= CLEAR if band is None else values > band
    return HeatMap(
        title=title,
        x=[head.short for head in receivers],
        y=[head.short for head in senders],
        values=values,
        told=told,
        x_title=axes[1],
        y_title=axes[0],
    )
