"""Quantities along training, one line a run: thin lines for seeds, a bold mean, a band for its interval.

Runs that differ in nothing but the seed form a group and share colour, dash and legend entry, which says how many seeds
there are. The mean stands where every seed has a value; it waits for those still in training. Where a seed ended early
its line ends in a cross, and from there on the mean is a thinner line over the seeds left. The band is the 95% percentile
bootstrap interval of the mean over seeds, point by point (aggregate.py); one seed has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from playground.figures.aggregate import mean_and_band
from playground.figures.panels import Layout, panel_title, place, suffix
from playground.figures.style import GREY, Style, apply_style, color_of, dash_of, see_through
from playground.figures.text import plain

X = Literal["tokens", "step"]
MOST_POINTS = 300
X_TITLES = {"tokens": "training tokens seen", "step": "training step"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One quantity of one run along training."""

    run: str
    label: str
    """What the legend calls the group of runs that this one belongs to."""
    n_future: int
    control: str
    seed: int
    variant: int = 0
    """Number among the groups of equal n_future and control; chooses the shade."""
    panel: str = ""
    """Title of the panel it is drawn in."""
    in_mean: bool = True
    """Whether it counts for the group's mean; a run that repeats a seed is drawn thin and does not."""
    ended: str = ""
    """Why it ends before its last step: `stopped`, `failed` or `interrupted`; empty for a run that is whole or in training."""
    steps: NDArray[np.int64]
    tokens: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, x: X) -> NDArray[np.int64]:
        """Where the values stand on the horizontal axis."""
        return self.tokens if x == "tokens" else self.steps

    @property
    def last_step(self) -> int:
        """The last step with a value; -1 without any."""
        return int(self.steps[np.isfinite(self.values)].max(initial=-1))


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanPart:
    """A stretch of a group's mean, with the seeds behind it."""

    curves: Sequence[Curve]
    steps: NDArray[np.int64]
    places: NDArray[np.int64]
    """Where the points stand on the horizontal axis."""
    values: NDArray[np.float64]
    """`[seed, point]`."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A horizontal line with a name: chance, ceiling, null band."""

    name: str
    value: float
    dash: str = "dot"
    side: Literal["left", "right"] = "right"
    """Where its name stands: at the end where curves are not."""


def curves_figure(
    curves: Sequence[Curve],
    *,
    y_title: str,
    x: X = "tokens",
    references: Sequence[Reference] = (),
    y_range: tuple[float, float] | None = None,
    height: int = 340,
    style: Style = "screen",
) -> go.Figure:
    """All curves, one panel for each of their panel titles, side by side with a common vertical axis."""
    panels = list(dict.fromkeys(curve.panel for curve in curves)) or [""]
    columns = min(4, len(panels))
    shape = (-(-len(panels) // columns), columns)
    traces: list[dict[str, Any]] = []
    layout: Layout = {"shapes": [], "annotations": []}
    for index, panel in enumerate(panels):
        row, col = divmod(index, columns)
        layout |= place(index, row, col, shape, (0.22 / shape[0], 0.04))
        at = suffix(index)
        nticks = 7 if columns < 3 else 4
        layout[f"xaxis{at}"] |= {"title": {"text": X_TITLES[x]}, "tickformat": "~s", "nticks": nticks}
        layout[f"yaxis{at}"] |= {"title": {"text": y_title}} if col == 0 else {"showticklabels": False}
        layout[f"yaxis{at}"] |= {"range": y_range} if y_range else {}
        layout[f"yaxis{at}"] |= {"matches": "y"} if index else {}
        layout["annotations"] += [panel_title(index, plain(panel))] if panel else []
        for reference in references:
            _draw(layout, reference, index, y_range)
        traces += _panel_traces(curves, panel, x, y_title, {"xaxis": f"x{at}", "yaxis": f"y{at}"})
    _name_once(traces)
    top = 60 if any(panels) else 36
    above = 30 if any(panels) else 6
    layout |= {"legend": {"y": 1.0 + above / max(1, height - top - 48)}, "height": height * shape[0]}
    layout |= {"margin": {"t": top}, "uirevision": "keep"}
    return apply_style(go.Figure({"data": traces, "layout": layout}), style)


def span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """A vertical range that holds all values with some room."""
    low, high = min(values), max(values)
    room = pad * (high - low) or pad
    return low - room, high + room


def mean_parts(group: Sequence[Curve], x: X) -> list[MeanPart]:
    """The mean over all seeds of a group, then over those left after one ended early, and so on.

    A part begins where the one before ends, so that the step between the two means shows. Only the first needs two seeds.
    """
    parts: list[MeanPart] = []
    left, joint, after = list(group), -1, -1
    while len(left) > 1 or (left and parts):
        until = min((curve.last_step for curve in left if curve.ended), default=None)
        part = shared_part(left, x, joint=joint, after=after, until=until)
        if part is not None and (len(part.steps) > 1 or not parts):
            parts.append(part)
            joint = int(part.steps[-1])
        if until is None:
            break
        after = until
        left = [curve for curve in left if not curve.ended or curve.last_step > until]
    return parts


def shared_part(
    curves: Sequence[Curve], x: X, *, joint: int = -1, after: int = -1, until: int | None = None
) -> MeanPart | None:
    """The points that every one of the curves has a value at: the step `joint`, and those after `after` up to `until`.

    None without any.
    """
    tables = [
        {int(step): (place, value) for step, place, value in zip(curve.steps, curve.at(x), curve.values, strict=True)
         if np.isfinite(value)}
        for curve in curves
    ]  # fmt: skip
    common = set(tables[0]).intersection(*tables[1:]) if tables else set[int]()
    shared = sorted(step for step in common if step == joint or (step > after and (until is None or step <= until)))
    if not shared:
        return None
    every = -(-len(shared) // MOST_POINTS)
    # Counted from the end, so that the newest point is always there.
    shared = shared[(len(shared) - 1) % every :: every]
    places = np.array([tables[0][step][0] for step in shared])
    values = np.array([[table[step][1] for step in shared] for table in tables])
    return MeanPart(curves=tuple(curves), steps=np.array(shared), places=places, values=values)


def _panel_traces(
    curves: Sequence[Curve], panel: str, x: X, y_title: str, axes: dict[str, str]
) -> list[dict[str, Any]]:
    """The traces of one panel, group by group."""
    here = [curve for curve in curves if curve.panel == panel]
    quantity = y_title.replace("<br>", " ")
    traces: list[dict[str, Any]] = []
    for label in dict.fromkeys(curve.label for curve in here):
        group = [curve for curve in here if curve.label == label]
        traces += [trace | axes for trace in _group_traces(group, x, quantity)]
    return traces


def _name_once(traces: Sequence[dict[str, Any]]) -> None:
    """One legend entry for each group: the widest line of its first panel."""
    chosen: dict[str, dict[str, Any]] = {}
    for trace in traces:
        trace["showlegend"] = False
        best = chosen.setdefault(trace["legendgroup"], trace)
        if trace["xaxis"] == best["xaxis"] and trace["line"]["width"] >= best["line"]["width"]:
            chosen[trace["legendgroup"]] = trace
    for trace in chosen.values():
        trace["showlegend"] = True


def _group_traces(group: Sequence[Curve], x: X, quantity: str) -> list[dict[str, Any]]:
    """Ends, seeds that do not count, seeds that do, bands, means: what is drawn last lies on top."""
    counted = [curve for curve in group if curve.in_mean] or list(group)
    alone = len(counted) == 1
    others = [curve for curve in group if curve not in counted]
    traces = [_end(curve, x, quantity) for curve in others + counted if curve.ended and curve.last_step >= 0]
    traces += [_seed_lines([curve], x, quantity) for curve in others]
    traces.append(_seed_lines(counted, x, quantity, bold=alone))
    for part in [] if alone else mean_parts(counted, x):
        traces += _mean_lines(part, counted, quantity)
    label = counted[0].label
    return [trace | {"type": "scatter", "name": plain(_told(label, counted)), "legendgroup": label} for trace in traces]


def _told(label: str, counted: Sequence[Curve]) -> str:
    """What the legend says: `n = 2, layers (4 seeds, 1 ended early)`."""
    ended = sum(bool(curve.ended) for curve in counted)
    return f"{label} ({seeds_text(len(counted))}{f', {ended} ended early' if ended else ''})"


def seeds_text(count: int) -> str:
    """`1 seed`, `4 seeds`."""
    return f"{count} seed{'' if count == 1 else 's'}"


def _seed_lines(curves: Sequence[Curve], x: X, quantity: str, *, bold: bool = False) -> dict[str, Any]:
    """Lines of single runs of a group as one trace with gaps between them; a run alone is named in the hover text.

    With a trace for each of fifty runs a browser takes half as long again.
    """
    numbers: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float64]] = []
    for curve in curves:
        every = -(-len(curve.steps) // MOST_POINTS) or 1
        keep = np.arange(len(curve.steps))[(len(curve.steps) - 1) % every :: every]
        closed = np.append(keep, keep[-1:])  # the last point again, without a value: the gap
        seeds = np.full(len(closed), curve.seed)
        numbers.append(np.stack([curve.at(x)[closed], curve.steps[closed], curve.tokens[closed], seeds], axis=1))
        values.append(np.append(curve.values[keep], np.full(len(closed) - len(keep), np.nan)))
    table, first = np.concatenate(numbers)[:-1], curves[0]
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    seed, run = (first.seed, f"<br>{plain(first.run)}") if len(curves) == 1 else ("%{customdata[2]}", "")
    return {
        "mode": "lines", "x": table[:, 0], "y": np.concatenate(values)[:-1],
        "line": {"color": color, "width": 2.2 if bold else 1.0, "dash": dash}, "opacity": 1.0 if bold else 0.4,
        "customdata": table[:, 1:],
        "hovertemplate": (
            f"<b>n = {first.n_future}, {plain(first.control)}, seed {seed}</b>{' (1 seed, no interval)' if bold else ''}<br>"
            f"{quantity} %{{y:.4g}}<br>"
            f"step %{{customdata[0]:,}}, %{{customdata[1]:.3s}} tokens{run}<extra></extra>"
        ),
    }  # fmt: skip


def _end(curve: Curve, x: X, quantity: str) -> dict[str, Any]:
    """A cross at the last value of a run that ended early."""
    color = color_of(curve.n_future, curve.variant)
    at = int(np.flatnonzero(curve.steps == curve.last_step)[0])
    return {
        "mode": "markers", "x": curve.at(x)[[at]], "y": curve.values[[at]],
        "line": {"width": 0}, "marker": {"symbol": "x", "size": 8, "color": color},
        "hovertemplate": (
            f"<b>n = {curve.n_future}, {plain(curve.control)}, seed {curve.seed}: {plain(curve.ended)}</b><br>its last value: "
            f"{quantity} %{{y:.4g}}<br>step {curve.steps[at]:,}, {curve.tokens[at]:,} tokens<br>{plain(curve.run)}"
            "<extra></extra>"
        ),
    }  # fmt: skip


def _mean_lines(part: MeanPart, group: Sequence[Curve], quantity: str) -> list[dict[str, Any]]:
    """Band and mean of a part; thinner and paler where seeds of the group are missing."""
    middle, low, high = mean_and_band(part.values)
    first, whole, several = group[0], len(part.curves) == len(group), len(part.curves) > 1
    color, dash = color_of(first.n_future, first.variant), dash_of(first.control)
    band = {
        "mode": "lines", "x": np.concatenate([part.places, part.places[::-1]]),
        "y": np.concatenate([high, low[::-1]]), "fill": "toself",
        "fillcolor": see_through(color, 0.18 if whole else 0.1), "line": {"width": 0}, "hoverinfo": "skip",
    }  # fmt: skip
    interval = (
        "95% bootstrap interval of the mean: %{customdata[0]:.4g} to %{customdata[1]:.4g}" if several else "no interval"
    )
    line = {
        "mode": "lines", "x": part.places, "y": middle,
        "line": {"color": color, "width": 3 if whole else 1.8, "dash": dash},
        "customdata": np.stack([low, high], axis=1),
        "hovertemplate": (
            f"<b>{plain(first.label)}: mean of {_behind(part, group)}</b><br>{quantity} %{{y:.4g}}<br>{interval}<br>"
            "at %{x:.3s}<extra></extra>"
        ),
    }  # fmt: skip
    return [band, line] if several else [line]


def _behind(part: MeanPart, group: Sequence[Curve]) -> str:
    """`4 seeds`, or `3 of 4 seeds, seed 2 ended early`."""
    gone = [str(curve.seed) for curve in group if curve not in part.curves]
    if not gone:
        return seeds_text(len(group))
    return (
        f"{len(part.curves)} of {len(group)} seeds, seed{'' if len(gone) == 1 else 's'} {', '.join(gone)} ended early"
    )


def _draw(layout: Layout, reference: Reference, index: int, y_range: tuple[float, float] | None) -> None:
    """The line, with its name inside the plot: below a line at the top, above any other."""
    at = suffix(index)
    above = y_range is None or reference.value <= sum(y_range) / 2
    where = {"xref": f"x{at} domain", "yref": f"y{at}"}
    line = {"color": GREY, "width": 1.3, "dash": reference.dash}
    layout["shapes"].append(
        {"type": "line", "x0": 0, "x1": 1, "y0": reference.value, "y1": reference.value, "line": line, **where}
    )
    layout["annotations"].append(
        {
            "text": f"{reference.name} {reference.value:.3g}", "font": {"size": 11, "color": GREY}, "showarrow": False,
            "x": 1 if reference.side == "right" else 0, "xanchor": reference.side, "y": reference.value,
            "yanchor": "bottom" if above else "top", **where,
        }
    )  # fmt: skip
