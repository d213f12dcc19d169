"""The sidebar: the runs folder, the number of runs, and the folders that cannot be read."""

from collections import Counter

import streamlit as st

from playground.runs.record import default_runs_dir
from playground.runs.store import read_store
from playground.ui.shared.text import code, plain
from playground.ui.shared.words import STATES

MOST_SHOWN = 10


def sidebar() -> None:
    """Draw the sidebar."""
    store = read_store(default_runs_dir(), lenient=True)
    with st.sidebar:
        st.caption(
            f"Runs folder: {code(store.folder)}",
            help=f"{plain(store.folder.resolve())}. Set PLAYGROUND_RUNS_DIR to use another folder.",
        )
        counts = Counter(run.record.state for run in store.runs)
        if store.runs:
            st.caption(", ".join(f"{counts[state]:,} {word}" for state, word in STATES.items() if counts[state]))
        else:
            st.caption("No stored runs yet.")
        if store.broken:
            number = len(store.broken)
            with st.expander(f"{number} {'folder' if number == 1 else 'folders'} not readable"):
                for folder in store.broken[:MOST_SHOWN]:
                    st.markdown(f"{code(folder.path.name)}: {plain(folder.problem)}")
                if number > MOST_SHOWN:
                    st.caption(f"and {number - MOST_SHOWN} more")
                st.caption("They are not shown and not changed. Remove the folder, or restore its run.json.")
