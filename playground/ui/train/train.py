"""Train: choose a task and a list of n, start the training, and watch."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from playground.runs.record import default_runs_dir
from playground.ui.shared.files import Store, read_store
from playground.ui.shared.text import plain
from playground.ui.shared.words import STATES, plural, task_title
from playground.ui.train.live import Watched, live_view, resume_button, watch
from playground.ui.train.live_system import live_system

if TYPE_CHECKING:
    from playground.ui.train.estimate import Plan

MOST_UNFINISHED = 8


def main() -> None:
    """Draw the page."""
    st.title("Train")
    folder = default_runs_dir()
    store = read_store(folder)
    chosen = st.session_state.get("watched", [])
    watched = watch(folder, store, chosen)
    if watched.active:
        st.session_state["watched"] = chosen = watched.names
        live_view(folder, chosen, active=True)
        live_system(folder, chosen, active=True)
        with st.expander("Train something else"):
            _form(folder, store)
        return
    if chosen:
        _ended(watched)
        live_view(folder, chosen, active=False)
        live_system(folder, chosen, active=False)
        st.subheader("Train again", anchor=False)
    else:
        st.markdown(
            "Train a next-token model (**n = 1**) and models that predict the next **n** tokens at once on a task whose "
            "answers are known, and watch what forms inside them. To begin, keep the settings below and press the button."
        )
    _form(folder, store)
    if not chosen:
        _earlier(store)


def _ended(watched: Watched) -> None:
    """The result of the trainings, and links to the next pages."""
    states = Counter(run.record.state for run in watched.runs)
    ended = ", ".join(f"{plural(states[state], 'run')} {word}" for state, word in STATES.items() if states[state])
    st.markdown(f"**Done**: {ended or 'nothing was trained'}.")
    tasks = {run.record.task for run in watched.runs if run.attention.steps}
    if tasks:
        _what_next(tasks.pop())


def _form(folder: Path, store: Store) -> None:
    slot = st.container()
    with slot, st.spinner("Loading the tasks"):
        # Imports PyTorch, which takes seconds: only after everything above is on the screen.
        from playground.running.presets import PRESETS
        from playground.ui.train.form import train_form
    with slot:
        plan = train_form(PRESETS, store.runs)
        if plan is not None:
            _start(folder, plan)


def _start(folder: Path, plan: "Plan") -> None:
    from playground.running.launcher import start_job

    try:
        with st.spinner("Starting"):
            job = start_job(
                folder,
                plan.preset,
                plan.left,
                control=plan.control,
                steps=plan.steps,
                objective=plan.objective,
                parallel=plan.parallel,
            )
    except (ValueError, OSError) as error:
        st.warning(f"Nothing was started: {plain(error)}", icon=":material/warning:")
        return
    st.session_state["watched"] = [job.id]
    st.rerun()


def _what_next(task: str) -> None:
    """Links to the two pages that show more about stored runs."""
    query = {"task": plain(task_title(task))}
    with st.container(horizontal=True):
        st.page_link(
            "playground/ui/compare/compare.py",
            label="Compare the runs",
            icon=":material/stacked_line_chart:",
            query_params=query,
        )
        st.page_link(
            "playground/ui/heads/heads.py",
            label="Replay how the heads formed",
            icon=":material/grid_view:",
            query_params=query,
        )


def _earlier(store: Store) -> None:
    """Results of earlier visits: finished runs to look at, unfinished ones to resume."""
    finished = [run for run in store.runs if run.record.state == "finished"]
    if finished:
        tasks = ", ".join(sorted({task_title(run.record.task) for run in finished}))
        st.subheader("Trained already", anchor=False)
        st.markdown(f"{plural(len(finished), 'finished run')}: {plain(tasks)}.")
        _what_next(finished[-1].record.task)
    unfinished = [run for run in store.runs if run.record.state in ("stopped", "interrupted")]
    if unfinished:
        with st.expander(f"{plural(len(unfinished), 'run')} not finished"):
            for run in unfinished[::-1][:MOST_UNFINISHED]:
                resume_button(run)


main()
