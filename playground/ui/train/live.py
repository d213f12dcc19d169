"""Live view of trainings: progress, curves and attention heads, read from the stored files once a second."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from playground.runs.errors import RunError
from playground.runs.steps import resumable
from playground.runs.store import Run, Store, read_store
from playground.ui.shared.guard import guarded
from playground.ui.shared.text import plain
from playground.ui.shared.words import STATES, duration, plural, short
from playground.ui.train.live_charts import live_charts
from playground.ui.train.trainings import (
    can_stop,
    is_resuming,
    resume_problem,
    resume_run,
    stop_job,
    stop_run,
    stored_jobs,
)

if TYPE_CHECKING:
    from playground.running.jobs import Entry, Job

POLL_SECONDS = 1.0
MOST_LINES = 8


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Content of the live view: jobs with their entries, and runs that were started outside the app."""

    jobs: "tuple[Job, ...]"
    runs: tuple[Run, ...]
    waiting: "tuple[Entry, ...]"
    """Entries without a run folder yet: queued, starting, or failed before the first step."""
    resuming: tuple[str, ...] = ()
    """Runs that were resumed, and whose new process has not written anything yet."""

    @property
    def active(self) -> bool:
        """Whether any training is queued, starting or running."""
        training = any(run.record.state == "running" for run in self.runs)
        return training or bool(self.resuming) or any(job.active for job in self.jobs)

    @property
    def lost(self) -> "tuple[Entry, ...]":
        """Entries that will not be trained: the job's process has ended without starting them."""
        at_work = {entry.run for job in self.jobs if job.active for entry in job.entries}
        left = (entry for entry in self.waiting if entry.status in ("queued", "running"))
        return tuple(entry for entry in left if entry.run not in at_work)

    @property
    def names(self) -> list[str]:
        """Ids of the jobs, and of the runs that belong to no job."""
        own = {entry.run for job in self.jobs for entry in job.entries}
        return [job.id for job in self.jobs] + [run.id for run in self.runs if run.id not in own]


def watch(folder: Path, store: Store, chosen: Sequence[str]) -> Watched:
    """Active jobs, jobs named in `chosen`, and every run in training."""
    jobs = tuple(job for job in stored_jobs(folder) if job.id in chosen or job.active)
    entries = [entry for job in jobs for entry in job.entries]
    known = {run.id: run for run in store.runs}
    mine = [known[run] for run in dict.fromkeys(entry.run for entry in entries) if run in known]
    names = {run.id for run in mine} | {entry.run for entry in entries}
    others = [run for run in store.runs if run.record.state == "running" or run.id in chosen]
    runs = (*mine, *(run for run in others if run.id not in names))
    return Watched(
        jobs=jobs,
        runs=runs,
        waiting=tuple(entry for entry in entries if entry.run not in known),
        resuming=tuple(run.id for run in runs if is_resuming(run)),
    )


def live_view(folder: Path, chosen: Sequence[str], *, active: bool) -> None:
    """Draw the trainings; while `active`, redraw every second as a fragment, and rerun the page when a run starts or ends."""
    before = _states(watch(folder, read_store(folder, lenient=True), chosen))

    @st.fragment(run_every=POLL_SECONDS if active else None)
    @guarded
    def poll() -> None:
        watched = watch(folder, read_store(folder, lenient=True), chosen)
        if active and (not watched.active or _states(watched) != before):
            st.rerun()  # the whole page: a fragment can redraw only itself
        _stop_buttons(watched)
        _progress(watched)
        live_charts(watched.runs)

    poll()


def _states(watched: Watched) -> dict[str, str]:
    return {run.id: run.record.state for run in watched.runs}


def _stop_buttons(watched: Watched) -> None:
    own = {entry.run for job in watched.jobs if job.can_stop for entry in job.entries}
    with st.container(horizontal=True):
        # A job without a process yet cannot be stopped, so it gets no button in its first moments.
        for number, job in enumerate((job for job in watched.jobs if job.can_stop), start=1):
            label = "Stop" if number == 1 else f"Stop training {number}"
            if st.button(
                label,
                key=f"stop-{job.id}",
                icon=":material/stop_circle:",
                help="Writes a checkpoint first, so that it can be resumed.",
            ):
                stop_job(job)
                st.toast("Stopping: each run writes a checkpoint first.")
        for run in watched.runs:
            if run.id not in own and can_stop(run) and st.button(f"Stop {plain(run.id)}", key=f"stop-{run.id}"):
                stop_run(run)
                st.toast(f"Stopping {plain(run.id)}: it writes a checkpoint first.")


def _progress(watched: Watched) -> None:
    columns = st.columns(2)
    for number, run in enumerate(watched.runs[:MOST_LINES]):
        with columns[number % 2]:
            _run_line(run)
    more = watched.runs[MOST_LINES:]
    if more:
        done = sum(run.record.state == "finished" for run in more)
        st.caption(f"and {plural(len(more), 'more run')}, {done} of them finished")
    failed = [entry for entry in watched.waiting if entry.status == "failed"]
    for entry in failed[:MOST_LINES]:
        st.warning(f"{_entry_name(entry)} did not start. {plain(entry.message)}", icon=":material/warning:")
    for entry in watched.lost[:MOST_LINES]:
        st.warning(f"{_entry_name(entry)} did not start: the process of its job is gone.", icon=":material/warning:")
    waiting = [entry for entry in watched.waiting if entry not in watched.lost]
    starting = [entry for entry in waiting if entry.status == "running"]
    queued = [entry for entry in waiting if entry.status == "queued"]
    if starting or (queued and not watched.runs):
        st.progress(0.0, f"Starting {plural(len(starting or queued), 'training')}: loading PyTorch takes a few seconds")
    if queued and (starting or watched.runs):
        names = ", ".join(_entry_name(entry) for entry in queued[:MOST_LINES])
        st.caption(f"Waiting: {names}{' ..' if len(queued) > MOST_LINES else ''}")


def _entry_name(entry: "Entry") -> str:
    return f"n = {entry.n_future}, {plain(entry.control)}, seed {entry.seed}"


def _run_line(run: Run) -> None:
    record = run.record
    state = record.state
    name = f"**n = {record.n_future}**, {plain(record.control)}, seed {record.seed}"
    told = "" if state == "running" else f"{STATES[state]}, "
    text = f"{name}: {told}step {record.step:,} of {record.steps:,}"
    if record.tokens_per_second:
        text += f", {short(record.tokens_per_second)} tokens/s"
    if state == "running" and record.step:
        left = (record.steps - record.step) * record.seconds / record.step
        text += f", about {duration(left)} left"
    st.progress(min(1.0, record.step / max(1, record.steps)), text)
    if state == "failed":
        st.warning(
            f"This training failed: {plain(record.reason or 'no reason was stored')}.", icon=":material/warning:"
        )
    if is_resuming(run):
        st.caption("Resuming: loading PyTorch takes a few seconds.")
    elif state in ("stopped", "interrupted"):
        resume_button(run)


def resume_button(run: Run) -> None:
    """Offer to resume from the last checkpoint; if an earlier attempt failed, show its reason."""
    if problem := resume_problem(run):
        st.warning(f"{plain(run.id)} was not resumed. {plain(problem)}", icon=":material/warning:")
    try:
        step = max(resumable(run.path / "checkpoints"), default=0)
    except RunError as error:
        st.warning(plain(error), icon=":material/warning:")
        return
    label = f"Resume {plain(run.id)} from step {step:,}"
    if st.button(label, key=f"resume-{run.id}", icon=":material/play_arrow:"):
        resume_run(run)
        st.session_state["watched"] = [*st.session_state.get("watched", []), run.id]
        st.rerun()
