"""Messages for pages that have nothing to draw yet."""

from collections.abc import Sequence

import streamlit as st

from playground.runs.store import Run, Store
from playground.ui.shared.text import code, plain
from playground.ui.shared.words import plural

TRAIN_PAGE = "playground/ui/train/train.py"


def no_runs(store: Store, purpose: str) -> None:
    """Message for an empty store: there are no runs, and where to train some."""
    st.info(f"There are no stored runs yet in {code(store.folder)}. {purpose}", icon=":material/info:")
    if store.broken:
        st.caption(f"{plural(len(store.broken), 'folder')} there cannot be read; the sidebar lists them.")
    st.page_link(TRAIN_PAGE, label="Train the first models", icon=":material/play_arrow:")


def no_rows(runs: Sequence[Run], what: str) -> None:
    """Message for runs that have not measured anything (yet), with the reason for each state."""
    training = [run for run in runs if run.record.state == "running"]
    failed = [run for run in runs if run.record.state == "failed"]
    text = f"None of these runs has {what} yet."
    if training:
        text += f" {plural(len(training), 'run is', 'runs are')} training: the first evaluation follows within seconds."
    if failed:
        text += f" {plural(len(failed), 'run')} failed: {plain(failed[-1].record.reason or 'no reason was stored')}."
    st.info(text, icon=":material/info:")
    if training:
        st.button("Look again", key="look-again", icon=":material/refresh:")
    else:
        st.page_link(TRAIN_PAGE, label="Train", icon=":material/play_arrow:")
