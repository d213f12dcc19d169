"""Heads, third view: attention patterns on a row of tokens, for several heads together, and one head as a map."""

from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from playground.figures.attention_script import CSS, SCRIPT
from playground.figures.attention_text import HeadOnRow, attention_data, attention_html
from playground.figures.head_colors import head_color
from playground.figures.heads import at_step
from playground.figures.pattern import pattern_figure
from playground.figures.text import plain as figure_text
from playground.results import AttentionScores, Head, score_title
from playground.runs.store import Run
from playground.text import visible
from playground.ui.heads.choice import ChosenRow, choose_model, choose_row
from playground.ui.heads.models import induction_targets, patterns, scores_on_task
from playground.ui.heads.stored import RunsOnPage, best_scores, has_probe
from playground.ui.shared.charts import Look, chart
from playground.ui.shared.models import Loaded
from playground.ui.shared.text import MOST

MOST_HEADS = 6
MOUNT = """
export default function ({ data, parentElement }) { drawAttention(parentElement.querySelector(".at-mount"), data); }
"""


def attention_view(shown: RunsOnPage) -> None:
    """Choose heads and a row; shows what the heads attend to."""
    found = choose_model(shown)
    if found is None:
        return
    run, step, loaded = found
    row = choose_row(run, loaded)
    if row is None:
        return
    scores = scores_at(run, step, loaded)
    heads = _choose_heads(run, scores)
    st.caption(
        "Point at a token: the tokens that each head attends to from there are shaded by their weights, which sum to 1; the "
        "four largest are written out. A dashed frame marks where an ideal induction head attends: the tokens that "
        "followed the earlier occurrences of this token. Pale tokens come later, and no head can attend to them."
    )
    data = attention_data(
        row.strings,
        [_shown_head(head, scores, loaded, row) for head in heads],
        targets=induction_targets(row.tokens),
        start=_start(row),
    )
    _component(data)
    title = f"{run.id}, step {step:,}, {row.name}"
    st.download_button(
        "Save as HTML",
        lambda: attention_html(data, title),
        "attention.html",
        "text/html",
        key="attention-html",
        on_click="ignore",
        type="tertiary",
        help="An interactive page like this one; it opens in any browser, without a network.",
    )
    st.subheader("One head as a map", anchor=False)
    _map(run, step, loaded, row, scores)


def scores_at(run: Run, step: int, loaded: Loaded) -> AttentionScores:
    """Scores of the heads at a stored step: those of the last evaluation up to it; measured now if there is none."""
    if has_probe(run, "task_attention") or has_probe(run, "attention"):
        history = best_scores(run)
        if history is not None:
            return history.results[at_step(history, step)]
    with st.spinner("Measuring the heads"):
        return scores_on_task(loaded)


def typical_heads(scores: AttentionScores) -> list[Head]:
    """The strongest head of each kind: previous token, induction, and every k-ahead kind that has a head."""
    names = [name for name in scores.names if name != "duplicate_token" and not name.startswith("back_")]
    best = [scores.strongest(name, least=0.1)[:1] for name in names]
    found = [head for heads in best for head in heads]
    return list(dict.fromkeys(found or scores.heads[:2]))


def head_note(head: Head, scores: AttentionScores) -> str:
    """A head's scores in words, those above their null bands first; each with its null band, then the ideal."""
    index = scores.heads.index(head)
    values = {
        name: (float(scores.score(name).ravel()[index]), float(scores.null(name).ravel()[index]))
        for name in scores.names
    }
    above = sorted((name for name, (value, null) in values.items() if value > null), key=lambda name: -values[name][0])
    if not above:
        return f"no score above its null band (ideal {scores.ideal:.0f})"
    parts = [f"{score_title(name)} {values[name][0]:.2f} (null {values[name][1]:.2f})" for name in above[:2]]
    return ", ".join(parts) + f"; ideal {scores.ideal:.0f}"


def _choose_heads(run: Run, scores: AttentionScores) -> list[Head]:
    options = [str(head) for head in scores.heads]
    chosen = st.multiselect(
        "Heads",
        options,
        default=[str(head) for head in typical_heads(scores)][:MOST_HEADS],
        max_selections=MOST_HEADS,
        format_func=lambda name: _option(Head.parse(name), scores),
        key=f"attention-heads-{run.id}",
        persist_state="session",
        help="By default the strongest head of each kind.",
    )
    return [Head.parse(name) for name in chosen or options[:1]]


def _option(head: Head, scores: AttentionScores) -> str:
    induction = float(scores.prefix_matching.ravel()[scores.heads.index(head)])
    return visible(f"{head.short} (induction {induction:.2f})", MOST)


def _shown_head(head: Head, scores: AttentionScores, loaded: Loaded, row: ChosenRow) -> HeadOnRow:
    pattern = patterns(loaded, row.tokens)[head.layer][head.index]
    return HeadOnRow(
        name=head.short, title=head.title, note=head_note(head, scores), color=head_color(head), pattern=pattern
    )


def _start(row: ChosenRow) -> int:
    """The token shown at first: the one before the last scored token, else the last one that occurred before."""
    scored = np.flatnonzero(np.array(row.scored[0]))
    if len(scored):
        return int(scored[-1]) - 1
    again = np.nonzero(induction_targets(row.tokens).any(axis=1))[0]
    return int(again[-1]) if len(again) else len(row.tokens) - 1


def _component(data: dict[str, Any]) -> None:
    mount = component("playground.attention_text", html='<div class="at-mount"></div>', css=CSS, js=SCRIPT + MOUNT)
    mount(data=data, key="attention-text")


def _map(run: Run, step: int, loaded: Loaded, row: ChosenRow, scores: AttentionScores) -> None:
    """The attention pattern of one head, by default of the strongest induction head."""
    order = np.argsort(-np.nan_to_num(scores.prefix_matching), axis=None, kind="stable")
    heads = [str(scores.heads[index]) for index in order]
    name = st.selectbox(
        "Head",
        heads,
        format_func=lambda item: _long_option(Head.parse(item), scores),
        key=f"pattern-head-{run.id}",
        persist_state="session",
        help="The strongest induction head first.",
        width=420,
    )
    head = Head.parse(name)
    st.caption(
        "Each row is a query token; bright cells are the tokens that it attends to. Framed: where an ideal induction head "
        "attends, with a total weight of 1 in all frames of a row."
    )
    figure = pattern_figure(
        patterns(loaded, row.tokens)[head.layer][head.index],
        row.strings,
        targets=induction_targets(row.tokens),
        title=figure_text(f"{head.title}, step {step:,}, {row.name}") + f"<br>{figure_text(run.id)}",
    )
    chart(figure, "pattern", look=Look())


def _long_option(head: Head, scores: AttentionScores) -> str:
    induction = float(scores.prefix_matching.ravel()[scores.heads.index(head)])
    return visible(f"{head.title} (induction {induction:.2f})", MOST)
