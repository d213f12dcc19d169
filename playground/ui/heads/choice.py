"""Controls shared by the views of the Heads page: the two runs, one of them, a stored step, a row of tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from playground.analysis.groups import Group
from playground.runs.store import Run
from playground.ui.heads.stored import RunsOnPage
from playground.ui.shared.models import Loaded, load_stored
from playground.ui.shared.text import plain
from playground.ui.shared.two_runs import LONGEST_TITLE, choose_two

if TYPE_CHECKING:
    from tasks.base import Batch

MOST_TOKENS = 64
ROWS = 64
"""Number of test rows to choose from."""
SOURCES = {"test": "test row", "fresh": "fresh sample", "typed": "own tokens"}
SOURCE_HELP = (
    "**test row**: a row of the task's fixed test set. **fresh sample**: drawn anew by number, as in training. "
    "**own tokens**: what you type."
)


@dataclass(frozen=True, kw_only=True)
class ChosenRow:
    """A row of tokens on which a model is run."""

    tokens: tuple[int, ...]
    strings: tuple[str, ...]
    scored: tuple[tuple[bool, ...], ...]
    """`[offset][position]`: True for tokens that the task scores at each offset; all False in a typed row."""
    name: str
    """Name of the row in figures."""
    places: tuple[int, ...]
    """The place of each token, which aligns tokens of different rows (`Batch.alignment`)."""
    number: int = 0
    """Its index in the test set; 0 for other rows."""


def choose_shown(runs: Sequence[Run], groups: Mapping[str, Group]) -> RunsOnPage:
    """One or two of the runs; the same run chosen twice is shown once."""
    left_column, right_column = st.columns(2)
    left, right = choose_two(runs, groups, (left_column, right_column))
    chosen = [left] if right is None or right.id == left.id else [left, right]
    titles: dict[str, str] = {}
    for run in chosen:
        title = f"{groups[run.id].label}, seed {run.record.seed}"
        titles[run.id] = title if title not in titles.values() and len(title) <= LONGEST_TITLE else run.id
    return RunsOnPage(runs=tuple(chosen), titles=titles)


def choose_model(shown: RunsOnPage) -> tuple[Run, int, Loaded] | None:
    """One of the runs, a stored step of it, and the model; None, with a sentence on the page, if none can be opened."""
    having = {run.id: run for run in shown.runs if run.checkpoints}
    if not having:
        st.info(
            "These runs have no stored weights, which this view needs; the last step of every new training is stored.",
            icon=":material/info:",
        )
        return None
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        run = next(iter(having.values()))
        if len(having) > 1:
            chosen = st.segmented_control(
                "Run",
                list(having),
                default=run.id,
                required=True,
                key="model-run",
                persist_state="session",
                format_func=lambda name: plain(shown.titles[name]),
            )
            run = having[chosen or run.id]
        steps = run.checkpoints
        step = steps[-1]
        if len(steps) > 1:
            step = st.select_slider("Stored step", steps, steps[-1], key=f"model-step-{run.id}", width=360)
        else:
            st.caption(f"{plain(shown.title(run))}, step {step:,}, the only one whose weights are stored.")
    loaded = load_stored(run, step)
    return None if loaded is None else (run, step, loaded)


def choose_row(run: Run, loaded: Loaded) -> ChosenRow | None:
    """A row of the test set, a fresh sample, or a typed row; None, with a sentence on the page, if the text is invalid."""
    task = run.record.task
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        source = st.segmented_control(
            "Tokens from",
            list(SOURCES),
            default="test",
            required=True,
            format_func=SOURCES.__getitem__,
            key="row-from",
            persist_state="session",
            help=SOURCE_HELP,
        )
        if source == "typed":
            text = st.text_input(
                "Your own tokens",
                value=_example(loaded),
                key=f"row-text-{task}",
                persist_state="session",
                width=480,
                help="Words of the task's vocabulary, written as its rows show them.",
            )
            return _typed(loaded, text)
        if source == "fresh":
            number = int(st.number_input("Sample", 0, 9999, 0, key="row-fresh", persist_state="session", width=140))
            return _fresh(loaded, number)
        number = int(
            st.number_input("Row of the test set", 0, ROWS - 1, 0, key="row-test", persist_state="session", width=180)
        )
    return _test_row(loaded, number)


def _typed(loaded: Loaded, text: str) -> ChosenRow | None:
    try:
        tokens = loaded.task.encode(text)
    except ValueError as error:
        sentence = str(error)
        st.info(plain(sentence[:1].upper() + sentence[1:]) + ".", icon=":material/edit:")
        return None
    most = min(MOST_TOKENS, loaded.task.n_ctx)
    if len(tokens) > most:
        st.caption(f"Only the first {most} of these {len(tokens)} tokens are shown.")
    kept = tokens[:most]
    none = ((False,) * len(kept),) * loaded.model.n_future
    return ChosenRow(
        tokens=tuple(kept),
        strings=tuple(loaded.task.token_strings(kept)),
        scored=none,
        name="own tokens",
        places=_own_places(loaded, kept),
    )


def _own_places(loaded: Loaded, tokens: list[int]) -> tuple[int, ...]:
    import torch

    from tasks.base import HasPlaces

    task = loaded.task
    return tuple(task.places(torch.tensor([tokens]))[0].tolist() if isinstance(task, HasPlaces) else range(len(tokens)))


def _example(loaded: Loaded) -> str:
    """The beginning of the first test row, as an example to change."""
    row = _test_row(loaded, 0)
    return loaded.task.decode(row.tokens[:24])


def _test_row(loaded: Loaded, number: int) -> ChosenRow:
    batch = loaded.task.test_batch(number + 1)
    number = min(number, len(batch.tokens) - 1)
    return dataclasses.replace(_row(loaded, batch, number, f"test row {number}"), number=number)


def _fresh(loaded: Loaded, number: int) -> ChosenRow:
    from tasks.base import seeded_generator

    return _row(loaded, loaded.task.sample(1, seeded_generator(number)), 0, f"sample {number}")


def _row(loaded: Loaded, batch: "Batch", number: int, name: str) -> ChosenRow:
    """One row of a batch, without padding, cut to the largest readable length."""
    from tasks.targets import IGNORED, score_targets

    row = batch.rows(number, number + 1)
    real = int((row.documents[0] >= 0).sum())
    tokens = row.tokens[0, : min(real, MOST_TOKENS)].tolist()
    scored: list[tuple[bool, ...]] = []
    for offset in range(1, loaded.model.n_future + 1):
        before = (score_targets(row, offset)[0] != IGNORED).tolist()
        scored.append(tuple(([False] * offset + before)[: len(tokens)]))
    return ChosenRow(
        tokens=tuple(tokens),
        strings=tuple(loaded.task.token_strings(tokens)),
        scored=tuple(scored),
        name=name,
        places=tuple(row.alignment[0, : len(tokens)].tolist()),
    )
