"""A table of training speed and device use of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from playground.analysis.groups import Group
from playground.runs.store import Run
from playground.ui.shared.system import rows_of, system_csv, system_table

COLUMNS = {
    "speed": "Input tokens per second of training of one model, the median over the run; without evaluations and probes.",
    "now": "Input tokens per second of one model, the median over the last five rows of training losses.",
    "model FLOP/s": "Operations that forward and backward pass need, of all models in the process; attention counted as half.",
    "MFU": "Model FLOPs utilisation: model FLOP/s over those of a large matrix product, measured on the same device.",
    "peak memory": "Of the whole process.",
    "models a process": "Models (usually seeds) that one process trains side by side; they share its time and memory.",
}


def stored_system(runs: Sequence[Run], groups: Mapping[str, Group]) -> None:
    """A section with the table of stored runs and its download; nothing for runs that have not trained."""
    rows = rows_of(runs, groups)
    if not any(row.tokens_per_second for row in rows):
        return
    st.subheader("System", anchor=False)
    told = "How fast the runs trained, and how much of their device they used."
    if any(row.mfu is not None for row in rows):
        told += (
            " MFU: the operations per second that forward and backward pass need, as a share of what a large matrix product "
            "reaches on the same device."
        )
    st.caption(f"{told} Compare speeds only on the same device and without other programs running.")
    show_table(system_table(rows), "system")
    st.download_button(
        "System as CSV", lambda: system_csv(rows), "system.csv", "text/csv", on_click="ignore", key="csv-system"
    )


def show_table(table: Any, key: str) -> None:
    config = {name: st.column_config.Column(help=text) for name, text in COLUMNS.items()}
    st.dataframe(table, hide_index=True, key=key, column_config=config)
