"""The figures of running trainings. A figure is rebuilt only if there is new data."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from playground.analysis.curves import loss_curves, score_curve, strongest_head_curve
from playground.analysis.groups import Group
from playground.figures.heads import head_map_figure, null_of
from playground.figures.losses import loss_figure
from playground.figures.scores import score_figure, strongest_head_figure
from playground.results import ScoreInfo
from playground.runs.store import Run
from playground.ui.shared.charts import chart
from playground.ui.shared.selection import groups_of

HEIGHT = 240
MOST_MAPS = 8
MAP_WIDTH = 216


def live_charts(runs: Sequence[Run]) -> None:
    """Loss, score, strongest head and heat-maps of the runs; figures without data are left out."""
    measured = [run for run in runs if len(run.metrics)]
    if not measured:
        if runs:
            st.caption("The first figures appear with the first evaluation.")
        return
    groups = groups_of(measured)
    having = [run for run in measured if run.attention.steps]
    left, right = st.columns(2)
    with left:
        _score(measured, groups)
    with right:
        _losses(measured, groups)
    left, right = st.columns(2)
    if having:
        with left:
            _strongest(having, groups)
        with right:
            _maps(having)


def _losses(runs: Sequence[Run], groups: dict[str, Group]) -> None:
    def build() -> go.Figure | None:
        curves = [curve for run in runs for curve in loss_curves(run.record, run.metrics, groups[run.id], kind="train")]
        return loss_figure(curves, quantity="loss", unit="nats", height=HEIGHT) if curves else None

    st.markdown("**Loss** of each offset, on the training batches")
    _draw("live-loss", _version(runs, groups), build)


def _score(runs: Sequence[Run], groups: dict[str, Group]) -> None:
    infos = {run.record.scores[0].name: run.record.scores[0] for run in runs if run.record.scores}
    for name, info in infos.items():
        st.markdown("**Score** on the fixed test set")
        _draw(f"live-score-{name}", _evaluations(runs, groups), lambda info=info: _score_figure(runs, groups, info))


def _score_figure(runs: Sequence[Run], groups: dict[str, Group], info: ScoreInfo) -> go.Figure | None:
    found = [score_curve(run.record, run.metrics, groups[run.id], info.name) for run in runs]
    curves = [curve for curve in found if curve is not None]
    return score_figure(curves, [info], height=HEIGHT) if curves else None


def _strongest(runs: Sequence[Run], groups: dict[str, Group]) -> None:
    def build() -> go.Figure:
        found = [strongest_head_curve(run.record, run.attention, groups[run.id]) for run in runs]
        null = max(null_of(run.attention.results[-1], "prefix_matching") for run in runs)
        return strongest_head_figure([curve for curve in found if curve is not None], null=null, height=HEIGHT)

    st.markdown("**Strongest induction head** that the next token can use: when it rises, one has formed")
    _draw("live-strongest", _evaluations(runs, groups), build)


def _maps(runs: Sequence[Run]) -> None:
    """A heat-map for each run, those in training first; as many side by side as fit."""
    st.markdown("**Attention heads**: a bright one is an induction head (0 dark, 1 yellow)")
    shown = sorted(runs, key=lambda run: run.record.state != "running")[:MOST_MAPS]
    with st.container(horizontal=True, gap="small"):
        for run in (run for run in runs if run in shown):
            title = f"n = {run.record.n_future}, seed {run.record.seed}"
            _draw(
                f"live-map-{run.id}",
                len(run.attention.steps),
                lambda run=run, title=title: head_map_figure(run.attention, title),
                width=MAP_WIDTH,
            )
    if len(runs) > len(shown):
        st.caption(f"The page Heads shows the other {len(runs) - len(shown)}.")


def _version(runs: Sequence[Run], groups: dict[str, Group]) -> Hashable:
    return tuple((run.id, groups[run.id], len(run.metrics)) for run in runs)


def _evaluations(runs: Sequence[Run], groups: dict[str, Group]) -> Hashable:
    return tuple((run.id, groups[run.id], len(run.attention.steps)) for run in runs)


def _draw(name: str, version: Hashable, build: Callable[[], go.Figure | None], width: int | None = None) -> None:
    """Draw a figure; the one of the last rerun (in the session state) if `version` is unchanged."""
    drawn: dict[str, Any] = st.session_state.setdefault("drawn", {})
    if name not in drawn or drawn[name][0] != version:
        drawn[name] = (version, build())
    figure = drawn[name][1]
    if figure is not None:
        chart(figure, name, width=width)
