"""Heads, first view: the scores of all heads along training, and the formation times."""

import pandas as pd
import streamlit as st

from playground.figures.formation import Formed, formation_figure
from playground.figures.formation_events import subject
from playground.results import Event, Formation, score_title
from playground.text import visible
from playground.ui.heads.figure import place_figure
from playground.ui.heads.stored import RunsOnPage, choose_rows, formation_of, histories_of, score_names
from playground.ui.shared.text import MOST
from playground.ui.shared.words import short


def formation_view(shown: RunsOnPage) -> None:
    """Curves of all heads on one score, with the events of each run above them."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        place = st.empty()
        rows = choose_rows(shown)
        axis = st.segmented_control(
            "Tokens",
            ["linear", "logarithmic"],
            default="linear",
            required=True,
            key="head-axis",
            persist_state="session",
        )
    histories = histories_of(shown, rows)
    if not histories:
        return
    names = score_names(list(histories.values()))
    score = place.selectbox(
        "Score",
        names,
        index=names.index("prefix_matching"),
        key="formation-score",
        format_func=lambda name: visible(score_title(name), MOST),
        persist_state="session",
        width=200,
    )
    having = [run for run in shown.runs if run.id in histories]
    formations = {run.id: formation_of(run) for run in having}
    st.caption(
        "A line is one attention head: blue in the trunk, one colour per future head; the strongest are named (`T1.3`: trunk "
        "layer 1, head 3; `F2.0`: future head of offset 2, head 0). An ideal head reaches 1; in the grey band a head is "
        "no better than chance. Above the curves, from left to right, is the order of events: when each was half way to "
        "its own final value and stayed there, on rows of the task. An induction head needs a previous-token head and "
        "K-composition with it (Olsson et al. 2022); the time shown is that of the strongest induction head with the "
        "strongest previous-token head before it. Accuracy may rise before any single head is half way to its final "
        "value, if several share the work."
    )
    formed = [Formed(title=shown.title(run), history=histories[run.id], formation=formations[run.id]) for run in having]
    log = axis == "logarithmic"
    place_figure(lambda style: formation_figure(formed, score or names[0], log=log, style=style), "formation")
    known = {shown.title(run): found for run in having if (found := formations[run.id]) is not None}
    if known:
        _table(known)


def _table(formations: dict[str, Formation]) -> None:
    with st.expander("The events in numbers", icon=":material/table_rows:"):
        table = pd.DataFrame([_line(title, event) for title, found in formations.items() for event in found.main])
        st.dataframe(table, hide_index=True, key="formation-table")
        st.caption(
            "Training tokens. Half of final: half way from the first to the own last value. t50 and t90: half and nine "
            "tenths of the way from chance to the ideal. Each is crossed and not left again; `not reached` means that it "
            "needs more tokens than the run has seen. For the order over many seeds: `python -m playground formation "
            "--help`."
        )


def _line(title: str, event: Event) -> dict[str, str | float]:
    def when(tokens: int | None) -> str:
        return f"not reached in {short(event.seen)}" if tokens is None else short(tokens)

    return {
        "run": visible(title, MOST),
        "event": visible(event.name, MOST),
        "of": visible(subject(event) or event.subject, MOST),
        "half of final": when(event.half),
        "t50": when(event.t50),
        "t90": when(event.t90),
        "final value": round(event.final, 3),
        "chance": round(event.null, 3),
        "ideal": event.ceiling,
    }
