"""The shift: the table in the module's docstring, and a slow reference on arbitrary batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.base import Batch
from tasks.targets import IGNORED, future_targets, score_targets

TABLE = {
    1: [11, 12, 13, None, 21, 22, None, None],
    2: [12, 13, None, None, 22, None, None, None],
    3: [13, None, None, None, None, None, None, None],
    8: [None] * 8,
    20: [None] * 8,
}


def worked_row() -> Batch:
    everything = torch.ones(1, 8, dtype=torch.bool)
    return Batch(
        tokens=torch.tensor([[10, 11, 12, 13, 20, 21, 22, 0]]),
        loss_mask=everything,
        score_mask=everything,
        documents=torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1]]),
    )


@pytest.mark.parametrize(("offset", "expected"), TABLE.items())
def test_the_worked_row_of_the_docstring(offset: int, expected: list[int | None]) -> None:
    filled = [IGNORED if token is None else token for token in expected]
    assert future_targets(worked_row(), offset)[0].tolist() == filled
    assert score_targets(worked_row(), offset)[0].tolist() == filled


@pytest.mark.parametrize("offset", [0, -1])
def test_offsets_start_at_one(offset: int) -> None:
    with pytest.raises(ValueError, match="offsets start at 1"):
        future_targets(worked_row(), offset)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 12))

    def grid(values: st.SearchStrategy) -> list[list]:
        return draw(st.lists(st.lists(values, min_size=length, max_size=length), min_size=rows, max_size=rows))

    return Batch(
        tokens=torch.tensor(grid(st.integers(0, 5))),
        loss_mask=torch.tensor(grid(st.booleans())),
        score_mask=torch.tensor(grid(st.booleans())),
        documents=torch.tensor(grid(st.integers(-1, 1))).sort(dim=1).values,
    )


@settings(max_examples=150, deadline=None)
@given(batches(), st.integers(1, 14))
def test_against_a_slow_reference(batch: Batch, offset: int) -> None:
    tokens, documents = batch.tokens.tolist(), batch.documents.tolist()
    loss_mask, score_mask = batch.loss_mask.tolist(), batch.score_mask.tolist()
    training, scored = future_targets(batch, offset), score_targets(batch, offset)
    n_rows, length = batch.tokens.shape
    for row in range(n_rows):
        for here in range(length):
            there = here + offset
            reachable = there < length and documents[row][there] == documents[row][here] != -1
            wanted = reachable and loss_mask[row][there]
            assert training[row, here] == (tokens[row][there] if wanted else IGNORED)
            wanted = reachable and all(score_mask[row][here + 1 : there + 1])
            assert scored[row, here] == (tokens[row][there] if wanted else IGNORED)


def test_targets_do_not_change_the_batch() -> None:
    batch, before = worked_row(), worked_row()
    future_targets(batch, 2)
    score_targets(batch, 2)
    for name in ("tokens", "loss_mask", "score_mask", "documents"):
        assert torch.equal(getattr(batch, name), getattr(before, name))
