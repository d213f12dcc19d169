"""Lens: the predictions of every layer, for a next-token run and an n-token run side by side."""

from collections.abc import Mapping, Sequence

import streamlit as st

from playground.analysis.groups import Group
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, read_store
from playground.ui.lens.means import lens_means
from playground.ui.lens.view import ModelOnPage, lens_view
from playground.ui.shared.charts import choose_look
from playground.ui.shared.empty import no_rows, no_runs
from playground.ui.shared.models import load_stored
from playground.ui.shared.selection import choose_task, groups_of
from playground.ui.shared.two_runs import choose_two, titles

Chosen = Sequence[tuple[Run, int]]
"""Runs, each with a stored step."""


def main() -> None:
    """Draw the page."""
    st.title("Lens")
    st.markdown(
        "What the model would predict if it stopped after each layer: from which layer of the trunk on the next token, and the "
        "tokens after it, can be read."
    )
    store = read_store(default_runs_dir(), lenient=True)
    if not store.runs:
        no_runs(store, "This page shows what the layers of stored models predict.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    runs = [run for run in of_task if run.checkpoints]
    if not runs:
        no_rows(of_task, "stored weights, which this page needs,")
        return
    groups = groups_of(runs)
    chosen = _choose(runs, groups)
    shown = _load(chosen, groups)
    if not shown:
        return
    look = choose_look()
    lens_view(shown, look)
    lens_means(shown, [run.record for run, _ in chosen], look)


def _choose(runs: Sequence[Run], groups: Mapping[str, Group]) -> Chosen:
    """One or two runs, each at a step of its own; one run at two steps is also possible."""
    left_place, right_place = st.columns(2)
    left, right = choose_two(runs, groups, (left_place, right_place), key="lens-")
    chosen: list[tuple[Run, int]] = []
    for side, place, run in (("left", left_place, left), ("right", right_place, right)):
        if run is None:
            continue
        steps = run.checkpoints
        step = steps[0]
        if len(steps) > 1:
            step = place.select_slider("Stored step", steps, steps[-1], key=f"lens-step-{side}-{run.id}")
        if (run, step) not in chosen:
            chosen.append((run, step))
    return chosen


def _load(chosen: Chosen, groups: Mapping[str, Group]) -> list[ModelOnPage]:
    """The models that can be opened; the page says why one cannot."""
    names = [f"{groups[run.id].label}, seed {run.record.seed}" for run, _ in chosen]
    called = titles(names, [step for _, step in chosen], [run.id for run, _ in chosen])
    found: list[ModelOnPage] = []
    for (run, step), title in zip(chosen, called, strict=True):
        loaded = load_stored(run, step)
        if loaded is not None:
            found.append(ModelOnPage(title=title, n_future=run.record.n_future, loaded=loaded))
    return found


main()
