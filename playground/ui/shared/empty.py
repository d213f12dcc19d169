"""What a page says when there is nothing to draw yet."""

from collections.abc import Sequence

import streamlit as st

from playground.ui.shared.files import Store, StoredRun
from playground.ui.shared.text import code, plain
from playground.ui.shared.words import plural

TRAIN_PAGE = "playground/ui/train/train.py"


def no_runs(store: Store, purpose: str) -> None:
    """An empty store: say so, and where runs come from."""
    st.info(f"There are no stored runs yet in {code(store.folder)}. {purpose}", icon=":material/info:")
    if store.broken:
        st.caption(f"{plural(len(store.broken), 'folder')} there cannot be read; the side bar lists them.")
    st.page_link(TRAIN_PAGE, label="Train the first models", icon=":material/play_arrow:")


def no_rows(runs: Sequence[StoredRun], what: str) -> None:
    """Runs that have not measured anything (yet): say why, state by state."""
    training = [run for run in runs if run.record.state == "running"]
    failed = [run for run in runs if run.record.state == "failed"]
    text = f"None of these runs has {what} yet."
    if training:
        text += f" {plural(len(training), 'run is', 'runs are')} training: the first evaluation comes within moments."
    if failed:
        text += f" {plural(len(failed), 'run')} failed: {plain(failed[-1].record.reason or 'no reason was stored')}."
    st.info(text, icon=":material/info:")
    if training:
        st.button("Look again", key="look-again", icon=":material/refresh:")
    else:
        st.page_link(TRAIN_PAGE, label="Train", icon=":material/play_arrow:")
