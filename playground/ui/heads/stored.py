"""Stored probe results of the runs on the Heads page, with a sentence on the page for missing or unreadable ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from playground.analysis.formation import formation
from playground.commands import run_line
from playground.results import AttentionHistory, AttentionScores, Composition, Formation, History
from playground.results.base import ResultT
from playground.runs.probes import Stored, probe_file
from playground.runs.reading import bad_lines
from playground.runs.store import Run
from playground.ui.shared.text import code, plain

RowSource = Literal["task_attention", "attention"]
ROWS: dict[RowSource, str] = {"task_attention": "rows of the task", "attention": "random repeats"}
ROWS_HELP = (
    "**rows of the task**: rows of its test set, at the queries before the tokens that it scores. **random repeats**: random "
    "tokens that repeat, equal for every task, at every query; a head that copies only what its task repeats, such as names, "
    "has a low score there."
)
ALONG_TRAINING = "task_attention composition behaviour"
MOST_COMMAND = 4000


@dataclass(frozen=True, kw_only=True)
class RunsOnPage:
    """The one or two runs on the page, with their titles in figures."""

    runs: tuple[Run, ...]
    titles: Mapping[str, str]
    """By run id."""

    def title(self, run: Run) -> str:
        return self.titles[run.id]


def has_probe(run: Run, probe: str) -> bool:
    """Whether a probe has stored anything; does not read the file."""
    try:
        return probe_file(run.path, probe).stat().st_size > 0
    except OSError:
        return False


def has_anything(run: Run) -> bool:
    """Whether the page can show anything of a run."""
    return has_probe(run, "attention") or has_probe(run, "task_attention") or bool(run.checkpoints)


def how_to_measure(run: Run, probes: str = ALONG_TRAINING) -> str:
    """The command that measures what is missing, or a sentence that this is no longer possible."""
    if run.checkpoints:
        command = run_line("probe", run.path, options=f"--probe {probes} --step all")
        return f"{code(command, MOST_COMMAND)} measures its stored steps."
    return f"It has no stored weights to measure them from; a new training does it with {code(f'--probes {probes}')}."


def choose_rows(shown: RunsOnPage) -> RowSource:
    """The rows on which the shown scores were measured; no control if there is only one kind."""
    present: list[RowSource] = [kind for kind in ROWS if any(has_probe(run, kind) for run in shown.runs)]
    if len(present) < 2:
        return (present or ["task_attention"])[0]
    return st.segmented_control(
        "Measured on",
        present,
        default=present[0],
        required=True,
        format_func=ROWS.__getitem__,
        key="head-rows",
        persist_state="session",
        help=ROWS_HELP,
    )


def scores_of(run: Run, rows: RowSource) -> AttentionHistory | None:
    """The attention scores of a run along training; None, with a sentence on the page, if there are none."""
    found = run.read_history(rows, AttentionScores)
    if not _is_readable(run, rows, found):
        return None
    history = found.history
    if not history.steps:
        probes = ALONG_TRAINING if rows == "task_attention" else rows
        st.info(
            f"{plain(run.id)} has no stored attention scores on {ROWS[rows]}. {how_to_measure(run, probes)}",
            icon=":material/info:",
        )
        return None
    return history


def best_scores(run: Run) -> AttentionHistory | None:
    """The scores that classify heads where the page offers no choice of rows: on the task's rows, else on random repeats."""
    return scores_of(run, "task_attention" if has_probe(run, "task_attention") else "attention")


def histories_of(shown: RunsOnPage, rows: RowSource) -> dict[str, AttentionHistory]:
    """The scores of every shown run that has some, by run id."""
    found = {run.id: scores_of(run, rows) for run in shown.runs}
    return {run_id: history for run_id, history in found.items() if history is not None}


def probe_history(run: Run, probe: str, result: type[ResultT]) -> History[ResultT] | None:
    """The history of another probe; None if it stored nothing or, with a sentence on the page, cannot be read."""
    found = run.read_history(probe, result)
    return found.history if _is_readable(run, probe, found) and found.history.steps else None


def _is_readable(run: Run, probe: str, found: Stored[ResultT]) -> bool:
    """Whether the stored results of a probe can be read at least in part; the page lists the lines that cannot."""
    if not found.bad:
        return True
    if not found.history.steps:
        unreadable(run, probe, found.bad[0].problem)
        return False
    st.caption(plain(bad_lines(probe_file(run.path, probe), found.bad)))
    return True


def formation_of(run: Run) -> Formation | None:
    """The formation times of a run; None, with a sentence on the page, if they were not measured."""
    if not has_probe(run, "task_attention"):
        st.info(
            f"{plain(run.id)} has no formation times: they are computed from scores on rows of the task. {how_to_measure(run)}",
            icon=":material/info:",
        )
        return None
    try:
        return formation(run)
    except ValueError as error:
        unreadable(run, "task_attention, composition or behaviour", str(error))
        return None


def unreadable(run: Run, probe: str, reason: str) -> None:
    """Write on the page that a stored file cannot be read by this version."""
    st.info(
        f"The stored {probe} of {plain(run.id)} cannot be read: {plain(reason)}. Another version may have written it; remove "
        f"the file from its folder `probes`. {how_to_measure(run)}",
        icon=":material/info:",
    )


def score_names(histories: Sequence[AttentionHistory]) -> list[str]:
    """The scores that all of the histories have, in their order."""
    shared = [set(history.results[-1].names) for history in histories]
    return [name for name in histories[0].results[-1].names if all(name in names for names in shared)] if shared else []


def compositions_of(run: Run) -> History[Composition] | None:
    """The history of composition; None if it was not stored or cannot be read."""
    return probe_history(run, "composition", Composition)
