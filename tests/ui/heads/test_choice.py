"""Rows of tokens for the views that run a model."""

from pathlib import Path

import numpy as np
import pytest

from playground.ui.heads import choice as choice
from playground.ui.shared.models import Loaded
from tasks.targets import IGNORED, score_targets
from tests.fake_runs import write_run, write_weights


def load(runs: Path, preset: str = "induction-cpu", n_future: int = 2) -> Loaded:
    from playground.runs.store import Run

    path = write_run(runs, preset, n_future=n_future, steps=10)
    write_weights(path, (10,))
    run = Run(path)
    return Loaded(model=run.model(), task=run.task)


@pytest.mark.parametrize("preset", ["induction-cpu", "stories-cpu", "polynomial-cpu", "bytes-cpu"])
def test_a_test_row_of_every_task(runs: Path, preset: str) -> None:
    loaded = load(runs, preset)
    for number in (0, 3):
        row = choice._test_row(loaded, number)
        batch = loaded.task.test_batch(number + 1).rows(number, number + 1)
        length = len(row.tokens)
        assert 0 < length <= choice.MOST_TOKENS
        assert list(row.tokens) == batch.tokens[0, :length].tolist()
        assert list(row.strings) == loaded.task.token_strings(row.tokens)
        assert (batch.documents[0, :length] >= 0).all(), "no padding"
        for offset in (1, 2):
            scored = np.flatnonzero((score_targets(batch, offset)[0] != IGNORED).numpy()) + offset
            assert np.flatnonzero(row.scored[offset - 1]).tolist() == [place for place in scored if place < length]


def test_rows_behind_the_last_are_the_last(runs: Path) -> None:
    loaded = load(runs)
    last = len(loaded.task.test_batch(10_000).tokens) - 1
    assert choice._test_row(loaded, 10_000).tokens == choice._test_row(loaded, last).tokens
    assert choice._test_row(loaded, 10_000).number == last


def test_a_fresh_sample_is_the_same_at_every_call_and_differs_by_number(runs: Path) -> None:
    loaded = load(runs)
    assert choice._fresh(loaded, 3) == choice._fresh(loaded, 3)
    assert choice._fresh(loaded, 3).tokens != choice._fresh(loaded, 4).tokens
    assert choice._fresh(loaded, 3).name == "sample 3"


def test_the_example_can_be_typed(runs: Path) -> None:
    for preset in ("induction-cpu", "stories-cpu", "polynomial-cpu", "bytes-cpu"):
        loaded = load(runs, preset)
        text = choice._example(loaded)
        row = choice._typed(loaded, text)
        assert row is not None and row.name == "own tokens"
        assert not np.array(row.scored).any() and np.array(row.scored).shape == (2, len(row.tokens))
