"""Probes: every probe on one or two runs, along their training or at a step, stored or measured now."""

from collections.abc import Mapping

import streamlit as st

from playground.analysis.groups import Group
from playground.probes.catalogue import Listed, all_probes
from playground.results import History, Result
from playground.runs.record import default_runs_dir
from playground.ui.probes.measuring import AtStep, has_probe, history_of, how_to_measure, measure_button
from playground.ui.probes.view import along_view, more_of, step_view
from playground.ui.shared.empty import no_rows, no_runs
from playground.ui.shared.files import StoredRun, read_store
from playground.ui.shared.guard import guarded
from playground.ui.shared.selection import choose_task, groups_of
from playground.ui.shared.text import plain
from playground.ui.shared.two_runs import choose_two, titles

SIDES = ("left", "right")
WHEN = ("at a step", "along training")
USUAL = "task_attention"


def main() -> None:
    """Draw the page."""
    st.title("Probes")
    st.markdown(
        "A probe measures what is inside of a model, or what it does. Choose two runs, such as one trained on the next token "
        "(n = 1) and one trained on two tokens (n = 2), and a probe."
    )
    store = read_store(default_runs_dir())
    if not store.runs:
        no_runs(store, "This page shows what probes measure on stored runs.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    probes = all_probes()
    runs = [run for run in of_task if run.checkpoints or any(has_probe(run, name) for name in probes)]
    if not runs:
        no_rows(of_task, "stored weights or results of probes")
        return
    groups = groups_of(runs)
    places = st.columns(2)
    left, right = choose_two(runs, groups, (places[0], places[1]), key="probes-")
    chosen = [left] if right is None or right.id == left.id else [left, right]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        probe = _choose_probe(probes)
        when = st.segmented_control(
            "Results", WHEN, default=WHEN[0], required=True, key="results", bind="query-params", persist_state="session"
        )
    st.markdown(plain(probe.summary))
    draw = guarded(_along if when == WHEN[1] else _at_step)
    draw(probe, chosen, groups)
    more_of(probe)


def _choose_probe(probes: Mapping[str, Listed]) -> Listed:
    """One probe. The choice is stored in the page's address."""
    name = st.selectbox(
        "Probe",
        list(probes),
        index=list(probes).index(USUAL),
        key="probe",
        bind="query-params",
        width=300,
    )
    return probes[name]


def _along(probe: Listed, runs: list[StoredRun], groups: Mapping[str, Group]) -> None:
    """Results of several steps of each run."""
    names = _names(runs, groups)
    found: dict[str, tuple[str, History[Result]]] = {}
    for run in runs:
        history = history_of(run, probe)
        if history.steps:
            found[names[run.id]] = run.id, history
        if len(history.steps) < 2:
            many = "one step only" if history.steps else "no step"
            st.info(
                f"{plain(run.id)} has stored results of {many}. {how_to_measure(run, probe)}", icon=":material/info:"
            )
    if found:
        along_view(probe, found)


def _at_step(probe: Listed, runs: list[StoredRun], groups: Mapping[str, Group]) -> None:
    """Results of one step of each run, chosen below the run."""
    columns = st.columns(2)
    chosen: list[AtStep] = []
    for side, place, run in zip(SIDES, columns, runs, strict=False):
        with place:
            found = _choose_result(probe, run, side)
            if found is not None:
                chosen.append(found)
    names = _names(runs, groups)
    called = titles([names[item.run.id] for item in chosen], [item.step for item in chosen], [i.run.id for i in chosen])
    if chosen:
        step_view(probe, dict(zip(called, chosen, strict=True)))


def _choose_result(probe: Listed, run: StoredRun, side: str) -> AtStep | None:
    """The stored result of a chosen step; None, with a button that measures it, if there is none."""
    history, checkpoints = history_of(run, probe), run.checkpoints
    steps = sorted([*checkpoints, *(step for step in history.steps if step not in checkpoints)])
    if not steps:
        st.info(f"{plain(run.id)} has no results of this probe. {how_to_measure(run, probe)}", icon=":material/info:")
        return None
    step = (history.steps or steps)[-1]
    if len(steps) > 1:
        step = st.select_slider("Step", steps, step, key=f"probe-step-{side}-{run.id}-{probe.name}")
    if step in history.steps:
        return AtStep(run=run, step=step, result=history.results[history.steps.index(step)])
    measure_button(run, probe, step, side=side)
    return None


def _names(runs: list[StoredRun], groups: Mapping[str, Group]) -> dict[str, str]:
    """The runs' titles: group and seed, or the id where two would have the same."""
    found = {run.id: f"{groups[run.id].label}, seed {run.record.seed}" for run in runs}
    return found if len(set(found.values())) == len(found) else {run.id: run.id for run in runs}


main()
