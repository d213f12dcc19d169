"""How fast runs train and how much of the device they use: below the charts of a training, and as a table of stored runs."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from playground.experiments.curves import throughput_curve
from playground.experiments.groups import Group
from playground.figures.throughput import throughput_figure
from playground.ui.charts import chart
from playground.ui.files import StoredRun, read_store
from playground.ui.guard import guarded
from playground.ui.live import POLL_SECONDS, watch
from playground.ui.selection import groups_of
from playground.ui.system import SystemRow, rate_text, rows_of, system_csv, system_table, together
from playground.ui.words import plural

HEIGHT = 240
COLUMNS = {
    "speed": "Input tokens of one model a second of training, the median over the run; evaluations and probes do not count.",
    "now": "Input tokens of one model a second, the median over the last five rows of training losses.",
    "model FLOP/s": "Operations that forward and backward pass need, of all models in the process; attention counted as half.",
    "MFU": "Model FLOPs utilisation: model FLOP/s over those of a large matrix product, measured on the same device.",
    "peak memory": "Of the whole process.",
    "models a process": "Models (usually seeds) that one process trains side by side; they share its time and memory.",
}


def live_system(folder: Path, chosen: Sequence[str], *, active: bool) -> None:
    """Draw throughput and the table of the watched trainings; while `active`, again every second."""

    @st.fragment(run_every=POLL_SECONDS if active else None)
    @guarded
    def poll() -> None:
        runs = [run for run in watch(folder, read_store(folder), chosen).runs if len(run.metrics)]
        groups = groups_of(runs)
        rows = rows_of(runs, groups)
        if any(row.tokens_per_second for row in rows):
            _live_panel(runs, groups, rows)

    poll()


def _live_panel(runs: Sequence[StoredRun], groups: Mapping[str, Group], rows: Sequence[SystemRow]) -> None:
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
        _table(system_table(rows, live=True), "live-system")


def _throughput(runs: Sequence[StoredRun], groups: Mapping[str, Group]) -> go.Figure | None:
    """The figure, made anew only when a run has a new row."""
    version: Hashable = tuple((run.id, groups[run.id], len(run.metrics)) for run in runs)
    drawn: dict[str, Any] = st.session_state.setdefault("drawn", {})
    if drawn.get("live-throughput", (None,))[0] != version:
        found = [throughput_curve(run.record, run.metrics, groups[run.id]) for run in runs]
        curves = [curve for curve in found if curve is not None]
        drawn["live-throughput"] = (version, throughput_figure(curves, height=HEIGHT) if curves else None)
    return drawn["live-throughput"][1]


def stored_system(runs: Sequence[StoredRun], groups: Mapping[str, Group]) -> None:
    """A section with the table of stored runs and its download; nothing for runs that have not trained."""
    rows = rows_of(runs, groups)
    if not any(row.tokens_per_second for row in rows):
        return
    st.subheader("System", anchor=False)
    told = "How fast the runs trained, and how much of their device they used."
    if any(row.mfu is not None for row in rows):
        told += (
            " MFU: the operations that forward and backward pass need a second, as a share of what a large matrix product "
            "reaches on the same device."
        )
    st.caption(f"{told} Speeds compare only on the same device with nothing else at work.")
    _table(system_table(rows), "system")
    st.download_button(
        "System as CSV", lambda: system_csv(rows), "system.csv", "text/csv", on_click="ignore", key="csv-system"
    )


def _table(table: Any, key: str) -> None:
    config = {name: st.column_config.Column(help=text) for name, text in COLUMNS.items()}
    st.dataframe(table, hide_index=True, key=key, column_config=config)
