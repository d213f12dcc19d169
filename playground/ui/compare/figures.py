"""The figures of the Compare page, from chosen runs: each function returns a figure, or None if there is nothing to draw."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import plotly.graph_objects as go

from playground.analysis.curves import clipping_curve, loss_curves, score_curve
from playground.analysis.groups import Group
from playground.figures.crossing import Crossing, crossing_figure
from playground.figures.curves import curves_figure
from playground.figures.losses import NATS_PER_BIT, loss_figure, panel_order
from playground.figures.means import Curve, X
from playground.figures.operations import ByOperations, operations_figure
from playground.figures.scores import score_figure
from playground.figures.style import Style
from playground.results import ScoreInfo
from playground.runs.store import Run
from playground.ui.compare.comparisons import comparison
from playground.ui.shared.remembered import remembered

BY_OPERATIONS = re.compile(r"(.+)_m(\d+)")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The runs on the page, their groups, and which runs count in t50 and in final scores."""

    runs: Sequence[Run]
    groups: Mapping[str, Group]
    counted: set[str]

    @cached_property
    def averaged(self) -> set[str]:
        """Ids of the runs in the mean of a curve: the counted runs, and for every other seed its newest run."""
        newest: dict[tuple[Group, int], str] = {}
        for run in sorted(self.runs, key=lambda run: run.id in self.counted):
            newest[self.groups[run.id], run.record.seed] = run.id
        return set(newest.values())

    def seeds(self) -> dict[str, int]:
        """Number of seeds in the curves of each group, by the group's label."""
        return dict(Counter(self.groups[run.id].label for run in self.runs if run.id in self.averaged))

    def most_lines(self) -> int:
        """Number of runs in the largest group, where runs in the mean and other runs are counted separately."""
        return max(Counter((self.groups[run.id].label, run.id in self.averaged) for run in self.runs).values())

    @cached_property
    def crossings(self) -> list[Crossing]:
        """When the headline score of each counted run got half way; runs without a measured score are left out."""
        found: list[Crossing] = []
        for run in self.runs:
            if run.id not in self.counted:
                continue
            row, group = comparison(run), self.groups[run.id]
            if row.score is not None:
                found.append(
                    Crossing(
                        run=run.id,
                        label=group.label,
                        n_future=group.n_future,
                        seed=row.seed,
                        variant=group.variant,
                        tokens=row.t50_tokens,
                        seen=row.measured_tokens,
                        running=run.record.state == "running",
                    )
                )
        return found

    def marked(self, curves: Sequence[Curve | None]) -> list[Curve]:
        """The curves that are not None, with `in_mean` set."""
        there = [curve for curve in curves if curve is not None]
        return [curve if curve.run in self.averaged else dataclasses.replace(curve, in_mean=False) for curve in there]


def score_infos(runs: Sequence[Run]) -> dict[str, ScoreInfo]:
    """All scores of the runs by name, headline first; without the scores for each m, which have a figure of their own."""
    infos = {info.name: info for run in runs for info in run.record.scores}
    return {name: info for name, info in infos.items() if not BY_OPERATIONS.fullmatch(name)}


def draw_score(chosen: Chosen, name: str, x: X, style: Style) -> go.Figure | None:
    """One score, with every distinct chance and ceiling of the runs."""
    curves = chosen.marked([_score(run, chosen.groups[run.id], run.record.state, name) for run in chosen.runs])
    infos = [info for run in chosen.runs for info in run.record.scores if info.name == name]
    return score_figure(curves, infos, x=x, style=style) if curves and infos else None


def draw_losses(chosen: Chosen, kind: str, x: X, style: Style) -> go.Figure | None:
    """Loss of each offset, on the test set or during training."""
    curves = _losses(chosen, kind, 1.0)
    quantity = "test loss" if kind == "eval" else "training loss"
    return loss_figure(curves, quantity=quantity, x=x, style=style) if curves else None


def draw_bits(chosen: Chosen, x: X, style: Style) -> go.Figure | None:
    """Bits per byte of each offset on the held-out files."""
    curves = _losses(chosen, "eval", 1 / NATS_PER_BIT)
    return loss_figure(curves, quantity="bits per byte", unit="held-out files", x=x, style=style) if curves else None


CLIPPING = {"share of clipped steps": "clipped", "gradient norm": "grad_norm"}
"""Column of the training rows, by its name on the page."""


def draw_clipping(chosen: Chosen, what: str, x: X, style: Style) -> go.Figure | None:
    """Share of clipped steps, or gradient norm before clipping."""
    curves = chosen.marked(
        [_clipping(run, chosen.groups[run.id], run.record.state, CLIPPING[what]) for run in chosen.runs]
    )
    share = (-0.02, 1.02) if CLIPPING[what] == "clipped" else None  # intervals of few seeds can reach beyond 0 and 1
    return curves_figure(curves, y_title=what, x=x, y_range=share, style=style) if curves else None


def draw_operations(chosen: Chosen, style: Style) -> go.Figure | None:
    """Exact match by number of operations: final values, or the newest ones of an unfinished run."""
    rows: list[ByOperations] = []
    chance: dict[int, float] = {}
    for run in chosen.runs:
        if run.id not in chosen.counted:
            continue
        values = _by_operations(run, chance)
        group = chosen.groups[run.id]
        if values:
            rows.append(
                ByOperations(
                    run=run.id,
                    label=group.label,
                    n_future=group.n_future,
                    control=group.control,
                    seed=run.record.seed,
                    variant=group.variant,
                    values=values,
                )
            )
    limits = {run.values.get("task", {}).get("max_operations") for run in chosen.runs}
    limit = limits.pop() if len(limits) == 1 else None
    return operations_figure(rows, dict(sorted(chance.items())), trained_up_to=limit, style=style) if rows else None


def failed_seeds(chosen: Chosen) -> dict[str, list[int]]:
    """By group label, the seeds of which a run failed and none counts: they are in no mean, median or share."""
    of_group = {run.id: (chosen.groups[run.id].label, run.record.seed) for run in chosen.runs}
    counted = {of_group[run] for run in chosen.counted}
    failed = {of_group[run.id] for run in chosen.runs if run.record.state == "failed"} - counted
    return {label: sorted(seed for other, seed in failed if other == label) for label, _ in failed}


def draw_crossings(found: Sequence[Crossing], style: Style) -> go.Figure | None:
    """The crossing times, one row per group."""
    return crossing_figure(found, style=style) if found else None


def _losses(chosen: Chosen, kind: str, scale: float) -> list[Curve]:
    curves = [
        curve for run in chosen.runs for curve in _losses_of(run, chosen.groups[run.id], run.record.state, kind, scale)
    ]
    return sorted(chosen.marked(curves), key=lambda curve: panel_order(curve.panel))


@remembered
def _score(run: Run, group: Group, _state: str, name: str) -> Curve | None:
    """The curve of a score. `_state` is in the cache key: the run's state can change while its files do not."""
    return score_curve(run.record, run.columns, group, name)


@remembered
def _clipping(run: Run, group: Group, _state: str, name: str) -> Curve | None:
    """The curve of a clipping quantity. `_state` is in the cache key, as in `_score`."""
    return clipping_curve(run.record, run.columns, group, name)


@remembered
def _losses_of(run: Run, group: Group, _state: str, kind: str, scale: float) -> list[Curve]:
    """The curve of each offset. `_state` is in the cache key: the run's state can change while its files do not."""
    return loss_curves(run.record, run.columns, group, kind=kind, scale=scale)


def _by_operations(run: Run, chance: dict[int, float]) -> dict[int, float]:
    """Exact match by m of one run; also fills `chance` with the chance for each m."""
    values: dict[int, float] = {}
    metrics = run.columns
    for info in run.record.scores:
        match = BY_OPERATIONS.fullmatch(info.name)
        if match is None:
            continue
        m = int(match[2])
        chance[m] = info.chance
        if info.name in run.record.final:
            values[m] = run.record.final[info.name]
        elif info.name in metrics:
            measured = metrics[info.name][np.isfinite(metrics[info.name])]
            if len(measured):
                values[m] = float(measured[-1])
    return values
