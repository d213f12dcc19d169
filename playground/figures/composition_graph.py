"""Graph of composition: attention heads are nodes, and composition scores above chance are edges.

Trunk layers run from the bottom to the top; above them are the future heads side by side, which all read the trunk's last layer
and not one another. Composition minus its value for random matrices is a measure of the weights (Elhage et al. 2021). An edge
is drawn where it exceeds the 99th percentile of the pair's own null distribution, a random rotation between the two heads. So
by chance about one pair in a hundred has an edge; the text below the graph gives the number of pairs.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from playground.figures.contrast import letters_on
from playground.figures.head_colors import head_color
from playground.figures.style import GREY, SCALE, Style, apply_style, see_through
from playground.figures.text import plain
from playground.figures.wording import wrapped
from playground.results import AttentionScores, Composition, Head, layer_title, score_title

Kind = Literal["q", "k", "v"]
KIND_TITLES: dict[Kind, str] = {"k": "K-composition", "q": "Q-composition", "v": "V-composition"}
KINDS: tuple[Kind, ...] = ("q", "k", "v")
"""In the order of `Composition.random`."""
MOST_EDGES = 60
LAYER, NODE, LETTER = 118, 30, 10
"""Pixels: from one layer to the next, diameter of a node, its name."""
NAMED = 24
"""Nodes with fewer pixels than this have no name."""
ROOM = 270
"""Width in pixels of a layer on a narrow page."""
GROUP_GAP = 0.7
"""Gap between two future heads, in nodes."""
MARGIN = {"t": 62, "b": 80, "l": 66, "r": 12}


def composition_figure(
    composition: Composition,
    scores: AttentionScores,
    *,
    kind: Kind = "k",
    score: str = "prefix_matching",
    widest: float | None = None,
    title: str = "",
    style: Style = "screen",
) -> go.Figure:
    """The graph of one run at one step. `scores` colours the nodes. `widest` is the value drawn with the greatest width.

    By default it is the largest value; pass one value to several graphs (steps, runs) to make their widths comparable.
    """
    places, slots = node_places(composition.receivers)
    edges = strongest_edges(composition, kind)
    widest = widest or max((value for _, _, value in edges), default=1.0)
    size = max(8.0, min(float(NODE), ROOM / slots - 4))
    levels = int(max(y for _, y in places.values())) + 1 if places else 1
    drawn = edges[:MOST_EDGES]
    traces = [_edge(places, edge, widest) for edge in reversed(drawn)]
    if drawn:
        traces.append(_edge_hover(places, drawn, composition, kind))
    traces.append(_nodes(places, scores, score, size))
    height = LAYER * max(1, levels - 1) + 60
    layout = {
        "title": {"text": f"<b>{wrapped(title, 60)}</b>", "font": {"size": 13}, "x": 0.5, "xanchor": "center"},
        "coloraxis": _bar(score),
        "showlegend": False,
        "margin": MARGIN,
        "height": height + MARGIN["t"] + MARGIN["b"],
        "xaxis": {"visible": False, "range": [-0.5, slots - 0.5], "fixedrange": True},
        "yaxis": {
            "range": [-0.35, levels - 0.6],
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "fixedrange": True,
            **_levels(composition.receivers),
        },
        "annotations": [*_groups(places), _key(composition, kind, widest, len(edges))],
    }
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def node_places(heads: Sequence[Head]) -> tuple[dict[Head, tuple[float, float]], float]:
    """Coordinates of each head, and the number of nodes in the widest layer."""
    trunk = list(dict.fromkeys(head.layer for head in heads if head.layer.startswith("blocks.")))
    future = list(dict.fromkeys(head.layer for head in heads if not head.layer.startswith("blocks.")))
    n_heads = sum(head.layer == heads[0].layer for head in heads)
    slots = max(1, len(future)) * n_heads + GROUP_GAP * max(0, len(future) - 1)
    places: dict[Head, tuple[float, float]] = {}
    for head in heads:
        if head.layer in future:
            x = future.index(head.layer) * (n_heads + GROUP_GAP) + head.index
            places[head] = (x, float(len(trunk)))
        else:
            places[head] = ((head.index + 0.5) * slots / n_heads - 0.5, float(trunk.index(head.layer)))
    return places, slots


def strongest_edges(composition: Composition, kind: Kind) -> list[tuple[Head, Head, float]]:
    """Sender, receiver and value of every pair above its null band, the strongest first."""
    values = np.nan_to_num(getattr(composition, kind), nan=-np.inf)
    found = [
        (composition.senders[row], composition.receivers[column], float(values[row, column]))
        for row, column in np.argwhere(values > composition.band(kind))
    ]
    return sorted(found, key=lambda edge: -edge[2])


def largest(compositions: Sequence[Composition], kind: Kind) -> float:
    """The largest value in any of several steps or runs; 0 if none is above its null band."""
    return max((edge[2] for item in compositions for edge in strongest_edges(item, kind)[:1]), default=0.0)


def _edge(places: dict[Head, tuple[float, float]], edge: tuple[Head, Head, float], widest: float) -> dict[str, Any]:
    sender, receiver, value = edge
    xs, ys = _curve(places[sender], places[receiver])
    share = min(1.0, value / widest)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "hoverinfo": "skip",
        "line": {"color": see_through(head_color(receiver), 0.25 + 0.6 * share), "width": 0.8 + 8 * share},
    }


def _curve(start: tuple[float, float], end: tuple[float, float], points: int = 16) -> tuple[list[float], list[float]]:
    """Points of a curve from one node up to another, vertical at both ends."""
    t = np.linspace(0, 1, points)
    ease = t * t * (3 - 2 * t)
    xs = start[0] + (end[0] - start[0]) * ease
    ys = start[1] + (end[1] - start[1]) * t
    return np.round(xs, 4).tolist(), np.round(ys, 4).tolist()


def _edge_hover(
    places: dict[Head, tuple[float, float]],
    edges: Sequence[tuple[Head, Head, float]],
    composition: Composition,
    kind: Kind,
) -> dict[str, Any]:
    """Invisible marks along the edges that show the hover text."""
    xs: list[float] = []
    ys: list[float] = []
    told: list[str] = []
    index = KINDS.index(kind)
    band, strongest = composition.band(kind), composition.band_of_strongest(kind)
    for sender, receiver, value in edges:
        curve = _curve(places[sender], places[receiver])
        row, column = composition.senders.index(sender), composition.receivers.index(receiver)
        text = (
            f"<b>{plain(sender.short)} → {plain(receiver.short)}</b><br>{KIND_TITLES[kind]} {value:.3f} above random<br>random "
            f"{composition.random[index]:.3f}, null band (99%) {band[row, column]:.3f} above it"
        )
        if np.isfinite(strongest[column]):
            text += f",<br>of the strongest sender of {plain(receiver.short)} {strongest[column]:.3f}"
        for point in (5, 8, 11):
            xs.append(curve[0][point])
            ys.append(curve[1][point])
            told.append(text)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": xs,
        "y": ys,
        "hovertext": told,
        "opacity": 0,
        "marker": {"size": 12},
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _nodes(places: dict[Head, tuple[float, float]], scores: AttentionScores, score: str, size: float) -> dict[str, Any]:
    heads = list(places)
    values = {head: float(value) for head, value in zip(scores.heads, scores.score(score).ravel(), strict=True)}
    shown = np.array([values.get(head, np.nan) for head in heads])
    return {
        "type": "scatter",
        "mode": "markers+text" if size >= NAMED else "markers",
        "x": [places[head][0] for head in heads],
        "y": [places[head][1] for head in heads],
        "text": [plain(head.short) for head in heads],
        "textfont": {"size": LETTER, "color": letters_on(shown).tolist()},
        "marker": {"size": size, "color": shown, "coloraxis": "coloraxis", "line": {"color": GREY, "width": 1}},
        "hovertext": [_told(head, scores) for head in heads],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _told(head: Head, scores: AttentionScores) -> str:
    if head not in scores.heads:
        return f"<b>{plain(head.title)}</b>"
    index = scores.heads.index(head)
    lines = [
        f"{plain(score_title(name))} {scores.score(name).ravel()[index]:.3f} (null {scores.null(name).ravel()[index]:.3f})"
        for name in scores.names
    ]
    return "<br>".join([f"<b>{plain(head.short)}: {plain(head.title)}</b>", *lines, f"ideal {scores.ideal:.0f}"])


def _levels(heads: Sequence[Head]) -> dict[str, Any]:
    trunk = list(dict.fromkeys(head.layer for head in heads if head.layer.startswith("blocks.")))
    names = [plain(layer_title(layer)) for layer in trunk]
    return {"tickvals": list(range(len(trunk) + 1)), "ticktext": [*names, "future<br>heads"]}


def _groups(places: dict[Head, tuple[float, float]]) -> list[dict[str, Any]]:
    """The name of each future head, above its attention heads."""
    found: list[dict[str, Any]] = []
    for layer in dict.fromkeys(head.layer for head in places if not head.layer.startswith("blocks.")):
        members = [place for head, place in places.items() if head.layer == layer]
        offset = int(layer.partition(".")[2]) + 1
        found.append(
            {
                "text": f"offset {offset}",
                "x": float(np.mean([x for x, _ in members])),
                "y": members[0][1],
                "yshift": NODE / 2 + 4,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11, "color": head_color(Head(layer, 0))},
            }
        )
    return found


def _key(composition: Composition, kind: Kind, widest: float, count: int) -> dict[str, Any]:
    band = composition.band(kind)[np.isfinite(composition.k)]
    least = f"{np.nanmin(band):.3f}" if np.isfinite(band).any() else "nothing"
    most = f" to {np.nanmax(band):.3f}" if np.isfinite(band).any() and np.ptp(band) > 0.0005 else ""
    shown = (
        f"the {MOST_EDGES} strongest of {count} edges"
        if count > MOST_EDGES
        else "1 edge"
        if count == 1
        else f"{count} edges"
    )
    chance = (
        "99% of random rotations give" if composition.rotated else "99% of random matrices give (older stored result)"
    )
    text = (
        f"{shown} of {len(band)} pairs: {KIND_TITLES[kind]} minus random, above what<br>{chance} "
        f"({least}{most}); widest line {widest:.2f};<br>colour of a line: the future head that reads it, or the trunk"
    )
    return {
        "text": text,
        "xref": "paper",
        "x": 0,
        "xshift": 8 - MARGIN["l"],
        "xanchor": "left",
        "yref": "paper",
        "y": 0,
        "yshift": 8 - MARGIN["b"],
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
        "align": "left",
    }


def _bar(score: str) -> dict[str, Any]:
    bar = {
        "title": {"text": plain(score_title(score)).replace(" ", "<br>") + "<br>(1 ideal)", "font": {"size": 12}},
        "thickness": 12,
        "tickvals": [0, 0.5, 1],
        "ticktext": ["0", ".5", "1"],
        "outlinewidth": 0,
        "xpad": 4,
    }
    return {"colorscale": SCALE, "cmin": 0, "cmax": 1, "colorbar": bar}
