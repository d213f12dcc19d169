"""Heads: the attention scores of every head through training, a next-token run beside an n-token run."""

from collections.abc import Mapping, Sequence

import streamlit as st

from playground.experiments.groups import Group, group_runs
from playground.figures.heads import TITLES, ScoreName, heads_figure
from playground.results import AttentionHistory
from playground.runs.record import default_runs_dir
from playground.ui.charts import chart, choose_look, html_download
from playground.ui.empty import no_rows, no_runs
from playground.ui.files import StoredRun, read_store
from playground.ui.pattern_view import pattern_view
from playground.ui.selection import choose_task
from playground.ui.words import STATES


def main() -> None:
    """Draw the page."""
    store = read_store(default_runs_dir())
    st.title("Heads")
    st.markdown(
        "What every attention head does, through training. An **induction head** finds the earlier occurrence of the "
        "current token and looks at what followed it; a **previous-token head**, one layer below, makes that possible."
    )
    if not store.runs:
        no_runs(store, "This page replays how attention heads form.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    runs = [run for run in of_task if run.attention.steps]
    if not runs:
        no_rows(of_task, "stored attention scores")
        return
    groups = group_runs({run.id: run.config for run in runs})
    left, right = _choose_two(runs, groups)
    shown = [left] if right is None or right.id == left.id else [left, right]
    _scores(shown, groups)
    st.subheader("One head at work", anchor=False)
    pattern_view(shown, groups)


def _choose_two(runs: Sequence[StoredRun], groups: Mapping[str, Group]) -> tuple[StoredRun, StoredRun | None]:
    """By default the newest n = 1 run that has a partner of the same preset and seed, and that partner."""
    newest_first = list(runs)[::-1]
    names = {run.id: _run_name(run, groups[run.id]) for run in newest_first}
    by_id = {run.id: run for run in newest_first}
    default_left, default_right = _pair(newest_first)
    left_column, right_column = st.columns(2)
    ids = list(by_id)
    left = left_column.selectbox(
        "Left", ids, index=ids.index(default_left.id), format_func=names.__getitem__, key="left"
    )
    if len(ids) == 1:
        right_column.caption(
            "With a second run of this task, trained with another n, the two would stand side by side."
        )
        return by_id[left], None
    right = right_column.selectbox(
        "Right", ids, index=ids.index(default_right.id), format_func=names.__getitem__, key="right"
    )
    return by_id[left], by_id[right]


def _pair(newest_first: Sequence[StoredRun]) -> tuple[StoredRun, StoredRun]:
    def kind(run: StoredRun) -> tuple[str | None, int]:
        return run.record.preset, run.record.seed

    more = [run for run in newest_first if run.record.n_future > 1]
    for right in more:
        for left in newest_first:
            if left.record.n_future == 1 and kind(left) == kind(right):
                return left, right
    single = [run for run in newest_first if run.record.n_future == 1]
    left = (single or newest_first)[0]
    others = [run for run in (more or newest_first) if run.id != left.id]
    return left, (others or [left])[0]


def _run_name(run: StoredRun, group: Group) -> str:
    record = run.record
    return f"{group.label}, seed {record.seed} ({STATES[record.state]}, step {record.step:,}): {run.id}"


def _scores(shown: Sequence[StoredRun], groups: Mapping[str, Group]) -> None:
    histories: dict[str, AttentionHistory] = {}
    for run in shown:
        title = f"{groups[run.id].label}, seed {run.record.seed}"
        histories[title if title not in histories else run.id] = run.attention
    st.caption(
        "Press Play, or pull the slider. Colour: score from 0 to 1, which an ideal head reaches, on rows of random tokens that "
        "repeat, the same for every run: a head that copies only what its task repeats, such as names, stays dark here and "
        "shows below. A number stands where a "
        "head exceeds its own null band, the 99th percentile of its score when the targets are moved to where they do not "
        "belong. Tokens flow upwards: the trunk, which all offsets share, and above the grey line one layer for each "
        "future head; future head k predicts offset k, the k-th token ahead."
    )
    names: list[ScoreName] = list(TITLES)
    chosen = st.segmented_control(
        "Scores", names, selection_mode="multi", default=names, format_func=TITLES.__getitem__, key="scores",
        persist_state="session",
    )  # fmt: skip
    look = choose_look()
    figure = heads_figure(histories, scores=[name for name in names if name in chosen] or names, style=look.style)
    chart(figure, "heads", look=look)
    html_download(lambda: figure, "heads")


main()
