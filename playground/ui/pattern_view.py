"""The pattern of one attention head on a real row of the task, at a stored step. The one view that loads a model."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from streamlit.delta_generator import DeltaGenerator

from playground.experiments.groups import Group
from playground.figures.heads import at_step, layer_name
from playground.figures.pattern import pattern_figure
from playground.results import AttentionScores
from playground.ui.charts import Look, chart
from playground.ui.files import StoredRun
from playground.ui.guard import guarded

MOST_TOKENS = 64
ROWS = 8


@dataclass(frozen=True)
class Patterns:
    """Attention of every head of one model on a few rows of its task."""

    layers: tuple[str, ...]
    attention: NDArray[np.float32]
    """`[row, layer, head, query, key]`"""
    tokens: tuple[tuple[str, ...], ...]
    targets: NDArray[np.bool_]
    """`[row, query, key]`: where an ideal induction head looks."""


def pattern_view(runs: Sequence[StoredRun], groups: Mapping[str, Group]) -> None:
    """Choose a head, a stored step and a row; draw what the head looks at."""

    @st.fragment
    @guarded
    def draw() -> None:
        _draw(runs, groups)

    draw()


def _draw(runs: Sequence[StoredRun], groups: Mapping[str, Group]) -> None:
    having = {run.id: run for run in runs if run.checkpoints}
    if not having:
        st.info("These runs have no stored weights, which this view needs.", icon=":material/info:")
        return
    columns = st.columns([3, 3, 2, 2])
    names = {run_id: f"{groups[run_id].label}, seed {run.record.seed}" for run_id, run in having.items()}
    run = having[columns[0].selectbox("Run", list(having), format_func=names.__getitem__, key="pattern-run")]
    steps = run.checkpoints
    step = (
        columns[1].select_slider("Stored step", steps, steps[-1], key=f"pattern-step-{run.id}")
        if len(steps) > 1
        else steps[0]
    )
    history = run.attention
    scores = history.scores[at_step(history, step)]
    layer, head = _choose_head(run, scores, columns[2])
    row = int(columns[3].number_input("Row of the test set", 0, ROWS - 1, 0, key="pattern-row"))
    patterns = _load(run, step)
    if patterns is None:
        return
    _figure(run, patterns, scores, layer, head, row, step)


def _choose_head(run: StoredRun, scores: AttentionScores, place: DeltaGenerator) -> tuple[int, int]:
    """All heads, the strongest induction head first."""
    order = np.argsort(-np.nan_to_num(scores.prefix_matching), axis=None, kind="stable")
    heads = [tuple(int(i) for i in np.unravel_index(index, scores.prefix_matching.shape)) for index in order]
    labels = {
        (
            layer,
            head,
        ): f"{layer_name(scores.layers[layer])}, head {head} (induction {scores.prefix_matching[layer, head]:.2f})"
        for layer, head in heads
    }
    layer, head = place.selectbox(
        "Head",
        heads,
        format_func=lambda item: labels[item],
        key=f"pattern-head-{run.id}",
        help="The strongest induction head first.",
    )
    return layer, head


def _load(run: StoredRun, step: int) -> Patterns | None:
    weights = run.path / "checkpoints" / str(step)
    try:
        with st.spinner("Loading the model"):
            return _patterns(run.path, step, weights.stat().st_mtime_ns)
    except FileNotFoundError:
        st.info("The weights of this step are gone; choose another step.", icon=":material/info:")
    except (ValueError, OSError, RuntimeError, KeyError, SafetensorError) as error:
        st.info(f"This model cannot be opened: {error}", icon=":material/info:")
    return None


@functools.lru_cache(maxsize=16)
def _patterns(path: Path, step: int, _version: int) -> Patterns:
    """Load the weights of a stored step and run them on the first rows of the task's test set."""
    from playground.model.patterns import match_mask
    from playground.probes.attention_scores import attention_patterns
    from playground.runs.store import Run

    run = Run(path)
    tokens = run.task.test_batch(ROWS).tokens[:, :MOST_TOKENS]
    found = attention_patterns(run.model(step), tokens)
    stacked = np.stack([pattern.cpu().numpy() for pattern in found.values()], axis=1)
    return Patterns(
        layers=tuple(found),
        attention=stacked,
        tokens=tuple(tuple(run.task.token_strings(row)) for row in tokens.tolist()),
        targets=match_mask(tokens, 1).numpy(),
    )


def _figure(
    run: StoredRun, patterns: Patterns, scores: AttentionScores, layer: int, head: int, row: int, step: int
) -> None:
    row = min(row, len(patterns.tokens) - 1)
    index = patterns.layers.index(scores.layers[layer])
    name = f"{layer_name(scores.layers[layer])}, head {head}"
    st.caption(
        "Each row is a token that looks back; bright cells are what it looks at. Orange squares mark where an ideal "
        "induction head looks: at what followed the earlier occurrences of the same token."
    )
    figure = pattern_figure(
        patterns.attention[row, index, head], patterns.tokens[row], targets=patterns.targets[row],
        title=f"{name}, step {step:,}, {run.id}",
    )  # fmt: skip
    chart(figure, "pattern", look=Look())
