"""Heads, fourth view: which heads read the output of which earlier heads, as a graph, at any measured step."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from playground.figures.composition_graph import KIND_TITLES, Kind, composition_figure, largest
from playground.figures.heads import at_step
from playground.results import AttentionHistory, AttentionScores, Composition, History, score_title
from playground.runs.store import Run
from playground.text import visible
from playground.ui.heads.models import composition_of, scores_on_task
from playground.ui.heads.stored import (
    RunsOnPage,
    choose_rows,
    compositions_of,
    has_probe,
    how_to_measure,
    score_names,
    scores_of,
)
from playground.ui.shared.charts import Look, chart, choose_look, html_download
from playground.ui.shared.models import load_stored
from playground.ui.shared.text import MOST, plain

KIND_HELP = (
    "How the receiving head uses the sender's output. **K**: as keys, which decide where it attends: an induction head "
    "reads the token before each position from a previous-token head. **Q**: as queries, which also decide that. **V**: "
    "as what it copies."
)

PANEL = 400
"""Width of a graph in pixels; on a narrow page the graphs are below one another."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The content of one run's graph."""

    composition: Composition
    scores: AttentionScores
    step: int


def composition_view(shown: RunsOnPage) -> None:
    """The graph of each run at a chosen step."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind: Kind = st.segmented_control(
            "Composition",
            list(KIND_TITLES),
            default="k",
            required=True,
            key="composition-kind",
            persist_state="session",
            format_func=lambda item: KIND_TITLES[item].partition("-")[0],
            help=KIND_HELP,
        )
        rows = choose_rows(shown)
        place = st.empty()
    stored = {run.id: history for run in shown.runs if (history := compositions_of(run)) is not None}
    scores = {
        run.id: history for run in shown.runs if has_probe(run, rows) and (history := scores_of(run, rows)) is not None
    }
    names = score_names(list(scores.values())) or ["prefix_matching"]
    score = place.selectbox(
        "Colour of the heads",
        names,
        index=names.index("prefix_matching"),
        format_func=lambda name: visible(score_title(name), MOST),
        key="composition-score",
        persist_state="session",
        width=190,
    )
    step = _choose_step(shown, stored)
    if step is None:
        return
    st.caption(
        "Tokens flow upwards. A line means that the upper head reads what the lower one writes, more than the same two heads "
        "would in 99 of 100 random rotations between them; about one pair in a hundred has a line by chance. A wider line is a "
        "larger value; lines into the trunk are blue, lines into a future head have its colour. The colour of a head is its "
        "score, 1 for an ideal head. The graph describes the weights alone (Elhage et al. 2021); the view Ablation shows "
        "whether a connection matters."
    )
    graphs = {
        run.id: graph for run in shown.runs if (graph := _graph(run, step, stored.get(run.id), scores.get(run.id)))
    }
    above = st.container(horizontal=True, gap="small")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        look = choose_look()
    with above:
        _draw(shown, graphs, stored, kind, score or names[0], look)


def _choose_step(shown: RunsOnPage, stored: Mapping[str, History[Composition]]) -> int | None:
    """One step for all runs: measured steps, or for a run without measurements the steps with stored weights."""
    steps: set[int] = set()
    for run in shown.runs:
        own = stored[run.id].steps if run.id in stored else run.checkpoints
        steps |= set(own)
        if not own:
            st.info(f"{plain(run.id)} has no stored composition. {how_to_measure(run)}", icon=":material/info:")
    ordered = sorted(steps)
    if len(ordered) > 1:
        return st.select_slider("Training step", ordered, ordered[-1], key="composition-step-" + "-".join(shown.titles))
    return ordered[0] if ordered else None


def _graph(run: Run, step: int, stored: History[Composition] | None, scores: AttentionHistory | None) -> Graph | None:
    """The graph at the last stored step up to `step`; computed from stored weights if composition was not stored."""
    if stored is not None:
        index = max(0, sum(at <= step for at in stored.steps) - 1)
        at, found = stored.steps[index], stored.results[index]
        if scores is not None:
            return Graph(composition=found, scores=scores.results[at_step(scores, at)], step=at)
    checkpoints = run.checkpoints
    if not checkpoints:
        return None
    at = max((known for known in checkpoints if known <= step), default=checkpoints[0])
    loaded = load_stored(run, at)
    if loaded is None:
        return None
    known = scores.results[at_step(scores, at)] if scores is not None else scores_on_task(loaded)
    return Graph(composition=composition_of(loaded), scores=known, step=at)


def _draw(
    shown: RunsOnPage,
    graphs: Mapping[str, Graph],
    stored: Mapping[str, History[Composition]],
    kind: Kind,
    score: str,
    look: Look,
) -> None:
    """The graphs side by side, with line widths that are comparable between steps and runs."""
    every = [item for run_id in graphs if run_id in stored for item in stored[run_id].results]
    widest = largest([*every, *(graph.composition for graph in graphs.values())], kind) or None
    for run in shown.runs:
        if run.id not in graphs:
            continue
        graph = graphs[run.id]
        figure = composition_figure(
            graph.composition,
            graph.scores,
            kind=kind,
            score=score,
            widest=widest,
            title=f"{shown.title(run)}, step {graph.step:,}",
            style=look.style,
        )
        with st.container(width="stretch" if len(graphs) == 1 else PANEL):
            chart(figure, f"composition-{run.id}", look=look)
            html_download(lambda figure=figure: figure, f"composition-{run.id}")
