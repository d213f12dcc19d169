"""Training speed and device use of running trainings, below their charts."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from playground.analysis.curves import throughput_curve
from playground.analysis.groups import Group
from playground.figures.throughput import throughput_figure
from playground.runs.store import Run, read_store
from playground.ui.shared.charts import chart
from playground.ui.shared.guard import guarded
from playground.ui.shared.selection import groups_of
from playground.ui.shared.system import SystemRow, rate_text, rows_of, system_table, together
from playground.ui.shared.system_view import show_table
from playground.ui.shared.words import plural
from playground.ui.train.live import POLL_SECONDS, watch

HEIGHT = 240


def live_system(folder: Path, chosen: Sequence[str], *, active: bool) -> None:
    """Draw throughput and the table of the watched trainings; while `active`, redraw every second."""

    @st.fragment(run_every=POLL_SECONDS if active else None)
    @guarded
    def poll() -> None:
        runs = [run for run in watch(folder, read_store(folder, lenient=True), chosen).runs if len(run.metrics)]
        groups = groups_of(runs)
        rows = rows_of(runs, groups)
        if any(row.tokens_per_second for row in rows):
            _live_panel(runs, groups, rows)

    poll()


def _live_panel(runs: Sequence[Run], groups: Mapping[str, Group], rows: Sequence[SystemRow]) -> None:
    training = [row for row in rows if row.status == "running"]
    left, right = st.columns(2)
    with left:
        st.markdown("**Throughput** of each model, without evaluations and probes")
        figure = _throughput(runs, groups)
        if figure is not None:
            chart(figure, "live-throughput", alt="Tokens a second along training.")
    with right:
        now = f"now {rate_text(together(rows))} over {plural(len(training), 'model')}"
        st.markdown(f"**System**: {now if training else 'speed, and how much of the device was used'}")
        show_table(system_table(rows, live=True), "live-system")


def _throughput(runs: Sequence[Run], groups: Mapping[str, Group]) -> go.Figure | None:
    """The throughput figure, rebuilt only if a run has a new row."""
    version: Hashable = tuple((run.id, groups[run.id], len(run.metrics)) for run in runs)
    drawn: dict[str, Any] = st.session_state.setdefault("drawn", {})
    if drawn.get("live-throughput", (None,))[0] != version:
        found = [throughput_curve(run.record, run.metrics, groups[run.id]) for run in runs]
        curves = [curve for curve in found if curve is not None]
        drawn["live-throughput"] = (version, throughput_figure(curves, height=HEIGHT) if curves else None)
    return drawn["live-throughput"][1]
