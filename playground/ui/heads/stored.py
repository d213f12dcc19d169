"""What probes have stored of the runs on the Heads page, with a sentence in place of what is missing or cannot be read."""

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
from playground.ui.shared.files import StoredRun
from playground.ui.shared.text import code, plain

Rows = Literal["task_attention", "attention"]
ROWS: dict[Rows, str] = {"task_attention": "rows of the task", "attention": "random repeats"}
ROWS_HELP = (
    "**rows of the task**: rows of its test set, at the queries before the tokens that it scores. **random repeats**: "
    "random tokens that repeat, the same for every task, at every query; a head that copies only what its task repeats, "
    "such as names, stays dark there."
)
ALONG_TRAINING = "task_attention composition behaviour"
MOST_COMMAND = 4000


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The one or two runs on the page, each with what it is called in figures."""

    runs: tuple[StoredRun, ...]
    titles: Mapping[str, str]
    """By run id."""

    def title(self, run: StoredRun) -> str:
        return self.titles[run.id]


def has_probe(run: StoredRun, probe: str) -> bool:
    """Whether a probe has stored anything, without reading it."""
    try:
        return probe_file(run.path, probe).stat().st_size > 0
    except OSError:
        return False


def has_anything(run: StoredRun) -> bool:
    """Whether the page has something to show of a run."""
    return has_probe(run, "attention") or has_probe(run, "task_attention") or bool(run.checkpoints)


def how_to_measure(run: StoredRun, probes: str = ALONG_TRAINING) -> str:
    """The command that fills the gap, or that there is nothing to measure any more."""
    if run.checkpoints:
        command = run_line("probe", run.path, options=f"--probe {probes} --step all")
        return f"{code(command, MOST_COMMAND)} measures its stored steps."
    return f"It has no stored weights to measure them from; a new training does it with {code(f'--probes {probes}')}."


def choose_rows(shown: Shown) -> Rows:
    """On which rows the scores were measured; no choice where there is one kind only."""
    present: list[Rows] = [kind for kind in ROWS if any(has_probe(run, kind) for run in shown.runs)]
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


def scores_of(run: StoredRun, rows: Rows) -> AttentionHistory | None:
    """The attention scores of a run along training; says on the page what is wrong, and gives None, when there are none."""
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


def best_scores(run: StoredRun) -> AttentionHistory | None:
    """The scores that name heads where nobody has chosen rows: those on the task's rows, else on random repeats."""
    return scores_of(run, "task_attention" if has_probe(run, "task_attention") else "attention")


def histories_of(shown: Shown, rows: Rows) -> dict[str, AttentionHistory]:
    """The scores of every shown run that has some, by run id."""
    found = {run.id: scores_of(run, rows) for run in shown.runs}
    return {run_id: history for run_id, history in found.items() if history is not None}


def probe_history(run: StoredRun, probe: str, result: type[ResultT]) -> History[ResultT] | None:
    """What another probe stored; None when it stored nothing, and a sentence when that cannot be read."""
    found = run.read_history(probe, result)
    return found.history if _is_readable(run, probe, found) and found.history.steps else None


def _is_readable(run: StoredRun, probe: str, found: Stored[ResultT]) -> bool:
    """Whether what a probe stored, if anything, can be read at least in part; says on the page which lines are left out."""
    if not found.bad:
        return True
    if not found.history.steps:
        unreadable(run, probe, found.bad[0].problem)
        return False
    st.caption(plain(bad_lines(probe_file(run.path, probe), found.bad)))
    return True


def formation_of(run: StoredRun) -> Formation | None:
    """When things formed in a run; a sentence, and None, when that was not measured."""
    if not has_probe(run, "task_attention"):
        st.info(
            f"{plain(run.id)} has no events: they are read from scores on rows of the task. {how_to_measure(run)}",
            icon=":material/info:",
        )
        return None
    try:
        return formation(run)
    except ValueError as error:
        unreadable(run, "task_attention, composition or behaviour", str(error))
        return None


def unreadable(run: StoredRun, probe: str, reason: str) -> None:
    """Say that a stored file does not hold what this version reads."""
    st.info(
        f"The stored {probe} of {plain(run.id)} cannot be read: {plain(reason)}. Another version may have written it; remove "
        f"the file from its folder `probes`. {how_to_measure(run)}",
        icon=":material/info:",
    )


def score_names(histories: Sequence[AttentionHistory]) -> list[str]:
    """The scores that all of them have, in their order."""
    shared = [set(history.results[-1].names) for history in histories]
    return [name for name in histories[0].results[-1].names if all(name in names for names in shared)] if shared else []


def compositions_of(run: StoredRun) -> History[Composition] | None:
    """Composition along training."""
    return probe_history(run, "composition", Composition)
