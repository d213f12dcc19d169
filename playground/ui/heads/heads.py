"""Heads: the attention heads of one or two runs: when they formed, where they attend, and the effect of ablating them."""

from collections.abc import Callable

import streamlit as st

from playground.runs.record import default_runs_dir
from playground.runs.store import read_store
from playground.ui.heads.ablation import ablation_view
from playground.ui.heads.attention import attention_view
from playground.ui.heads.choice import choose_shown
from playground.ui.heads.composition import composition_view
from playground.ui.heads.formation import formation_view
from playground.ui.heads.maps import maps_view
from playground.ui.heads.stored import RunsOnPage, has_anything
from playground.ui.shared.empty import no_rows, no_runs
from playground.ui.shared.guard import guarded
from playground.ui.shared.selection import choose_task, groups_of

VIEWS: dict[str, Callable[[RunsOnPage], None]] = {
    "Formation": formation_view,
    "Heat-maps": maps_view,
    "Attention at work": attention_view,
    "Composition": composition_view,
    "Ablation": ablation_view,
}
"""Only the chosen view is drawn, as a fragment: its own controls redraw it alone."""


def main() -> None:
    """Draw the page."""
    st.title("Heads")
    st.markdown(
        "What every attention head does, through training. An **induction head** finds the earlier occurrence of the "
        "current token and attends to the token after it; a **previous-token head**, one layer below, makes that possible."
    )
    store = read_store(default_runs_dir(), lenient=True)
    if not store.runs:
        no_runs(store, "This page shows how attention heads form during training.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    runs = [run for run in of_task if has_anything(run)]
    if not runs:
        no_rows(of_task, "stored attention scores")
        return
    shown = choose_shown(runs, groups_of(runs))
    view = st.segmented_control(
        "View", list(VIEWS), default="Formation", required=True, key="view", bind="query-params"
    )
    draw = guarded(VIEWS[view or "Formation"])

    @st.fragment
    def alone() -> None:
        draw(shown)

    alone()


main()
