"""Decode: a run continues a prompt with plain and with speculative decoding, shown forward by forward."""

from collections.abc import Sequence

import streamlit as st

from playground.runs.record import default_runs_dir
from playground.runs.store import read_store
from playground.ui.decode.choice import DecodingModel, choose_models, choose_prompts, choose_settings
from playground.ui.decode.numbers import numbers_view
from playground.ui.decode.view import text_view, write_all
from playground.ui.shared.empty import no_rows, no_runs
from playground.ui.shared.guard import guarded
from playground.ui.shared.selection import choose_task, groups_of


def main() -> None:
    """Draw the page."""
    st.title("Decode")
    st.markdown(
        "Let a run write. A model with further future heads can **draft**: they guess the tokens after the next one, the next "
        "forward checks all guesses at once, and those that equal offset 1's own choice are accepted. The text stays that of "
        "plain decoding, in fewer forwards."
    )
    store = read_store(default_runs_dir(), lenient=True)
    if not store.runs:
        no_runs(store, "This page lets stored models write, token by token.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    runs = [run for run in of_task if run.checkpoints]
    if not runs:
        no_rows(of_task, "stored weights, which this page needs,")
        return
    shown = choose_models(runs, groups_of(runs))
    if shown:
        _alone(shown)


def _alone(shown: Sequence[DecodingModel]) -> None:
    """Everything below the choice of models, as a fragment: its controls redraw it alone."""

    @st.fragment
    @guarded
    def draw() -> None:
        prompts = choose_prompts(shown)
        settings = choose_settings(shown)
        written = write_all(shown, prompts, settings)
        if written:
            text_view(written)
            numbers_view(written)

    draw()


main()
