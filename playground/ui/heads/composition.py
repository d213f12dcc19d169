"""Heads, fourth view: which head reads what which earlier head writes, as a graph, at any measured step."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from playground.figures.composition_graph import KIND_TITLES, Kind, composition_figure, largest
from playground.figures.heads import at_step
from playground.results import AttentionHistory, AttentionScores, Composition, History, score_title
from playground.text import visible
from playground.ui.heads.models import composition_of, scores_on_task
from playground.ui.heads.stored import (
    Shown,
    choose_rows,
    compositions_of,
    has_probe,
    how_to_measure,
    score_names,
    scores_of,
)
from playground.ui.shared.charts import Look, chart, choose_look, html_download
from playground.ui.shared.files import StoredRun
from playground.ui.shared.models import load_stored
from playground.ui.shared.text import MOST, plain

KIND_HELP = (
    "What the receiving head makes of it. **K**: where it looks, through its keys: an induction head reads from a "
    "previous-token head what came before each token. **Q**: where it looks, through its queries. **V**: what it passes on."
)

PANEL = 400
"""Pixels of a graph beside another one; on a narrow page they stand below one another."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What one run's graph shows."""

    composition: Composition
    scores: AttentionScores
    step: int


def composition_view(shown: Shown) -> None:
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
        "Tokens flow upwards. A line says that the upper head reads what the lower one writes, more than the same two heads "
        "would in 99 of 100 random rotations between them; about one pair in a hundred has a line by chance. Wider means more, "
        "blue into the trunk, and in each future head's own colour into that one. Colour of a head: its score, 1 for an ideal "
        "head. It is a property of the weights alone (Elhage et al. 2021); whether it matters, the ablations tell."
    )
    graphs = {
        run.id: graph for run in shown.runs if (graph := _graph(run, step, stored.get(run.id), scores.get(run.id)))
    }
    above = st.container(horizontal=True, gap="small")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        look = choose_look()
    with above:
        _draw(shown, graphs, stored, kind, score or names[0], look)


def _choose_step(shown: Shown, stored: Mapping[str, History[Composition]]) -> int | None:
    """One step for all runs: measured ones, and for a run without measurements those with stored weights."""
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


def _graph(
    run: StoredRun, step: int, stored: History[Composition] | None, scores: AttentionHistory | None
) -> Graph | None:
    """What was stored last up to that step; without stored composition it is computed from stored weights."""
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
    shown: Shown,
    graphs: Mapping[str, Graph],
    stored: Mapping[str, History[Composition]],
    kind: Kind,
    score: str,
    look: Look,
) -> None:
    """The graphs side by side, with common widths of lines through all steps."""
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
