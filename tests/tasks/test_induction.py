"""Random repeats: how rows are made, what is scored, and what an induction oracle gets."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.base import seeded_generator
from tasks.induction import Induction, InductionConfig

SMALL = InductionConfig(n_ctx=40, min_distance=5, max_distance=12, d_vocab=20, test_rows=64)


def induction_oracle(tokens: Tensor, offsets: Sequence[int], d_vocab: int = 20) -> Tensor:
    """Finds the latest earlier occurrence of each token and predicts what came after it, offset by offset."""
    n_rows, length = tokens.shape
    logits = torch.zeros(n_rows, length, len(offsets), d_vocab)
    for row in range(n_rows):
        last: dict[int, int] = {}
        for position, token in enumerate(tokens[row].tolist()):
            if token in last:
                for column, offset in enumerate(offsets):
                    source = last[token] + offset
                    if source <= position:
                        logits[row, position, column, tokens[row, source]] = 1.0
            last[token] = position
    return logits


def test_the_worked_row_of_the_docstring() -> None:
    task = Induction(InductionConfig(n_ctx=8, min_distance=3, max_distance=3, d_vocab=10, test_rows=4))
    batch = task.test_batch(1)
    row = batch.tokens[0].tolist()
    assert row == [row[position % 3] for position in range(8)]
    assert batch.score_mask[0].tolist() == [False] * 4 + [True] * 4
    assert task.decode([7, 2, 5]) == "7 2 5"


def test_rows_repeat_a_block_without_repeats_at_varying_distances() -> None:
    batch = Induction(SMALL).sample(300, seeded_generator(0))
    distances = batch.info["distance"].tolist()
    assert set(distances) == set(range(5, 13))
    for row, distance in zip(batch.tokens.tolist(), distances, strict=True):
        assert len(set(row[:distance])) == distance
        assert row == [row[position % distance] for position in range(len(row))]
    assert batch.tokens.unique().tolist() == list(range(20))


def test_scored_are_the_tokens_whose_predecessor_occurred_before() -> None:
    batch = Induction(SMALL).sample(100, seeded_generator(1))
    for row, scored in zip(batch.tokens.tolist(), batch.score_mask.tolist(), strict=True):
        seen_before = [position > 0 and row[position - 1] in row[: position - 1] for position in range(len(row))]
        assert scored == seen_before
    assert batch.loss_mask.all()
    assert (batch.documents == 0).all()


def test_a_vocabulary_smaller_than_the_block() -> None:
    config = InductionConfig(d_vocab=4, min_distance=10, max_distance=10, n_ctx=30, test_rows=4)
    batch = Induction(config).sample(50, seeded_generator(0))
    for row in batch.tokens.tolist():
        assert sorted(row[:4]) == sorted(row[4:8]) == [0, 1, 2, 3]
        assert row[10:20] == row[:10]


PIECES = dataclasses.replace(SMALL, repeats="pieces")


def test_pieces_follow_the_block_to_its_end_from_random_places_on() -> None:
    batch = Induction(PIECES).sample(400, seeded_generator(0))
    distances = batch.info["distance"].tolist()
    begun: dict[int, set[int]] = {}
    for row, scored, distance in zip(batch.tokens.tolist(), batch.score_mask.tolist(), distances, strict=True):
        block = row[:distance]
        place = distance - 1
        assert len(set(block)) == distance and not any(scored[:distance])
        for token, is_scored in zip(row[distance:], scored[distance:], strict=True):
            begins = place == distance - 1
            assert is_scored != begins
            place = block.index(token) if begins else place + 1
            assert token == block[place]
            if begins:
                begun.setdefault(distance, set()).add(place)
    assert begun == {distance: set(range(distance)) for distance in range(5, 13)}


def test_whole_repeats_are_drawn_as_before_there_were_pieces() -> None:
    config = InductionConfig(n_ctx=12, min_distance=4, max_distance=6, d_vocab=10)
    assert Induction(config).sample(1, seeded_generator(3)).tokens[0].tolist() == [2, 4, 0, 1, 9, 2, 4, 0, 1, 9, 2, 4]
    (item,) = (item for item in dataclasses.fields(InductionConfig) if item.name == "repeats")
    assert item.default == "whole" and item.metadata["since"]


@pytest.mark.parametrize("config", [SMALL, PIECES])
def test_what_followed_last_time_is_right_and_the_token_not_seen_for_longest_in_whole_repeats_only(
    config: InductionConfig,
) -> None:
    batch = Induction(config).sample(200, seeded_generator(4))
    right: list[tuple[bool, bool]] = []
    for row, scored in zip(batch.tokens.tolist(), batch.score_mask.tolist(), strict=True):
        for at in (at for at, flag in enumerate(scored) if flag):
            past = row[:at]
            last = max(place for place in range(at - 1) if past[place] == past[-1])
            longest = list(dict.fromkeys(reversed(past)))[-1]
            right.append((past[last + 1] == row[at], longest == row[at]))
    shares = torch.tensor(right).double().mean(dim=0).tolist()
    assert shares[0] == 1
    assert shares[1] == 1 if config.repeats == "whole" else 0.1 < shares[1] < 0.3


def test_fixed_distance() -> None:
    config = InductionConfig(fixed_distance=True, n_ctx=40, min_distance=5, max_distance=12)
    assert Induction(config).sample(20, seeded_generator(0)).info["distance"].unique().tolist() == [12]


@pytest.mark.parametrize("config", [SMALL, PIECES])
def test_the_induction_oracle_is_always_right(config: InductionConfig) -> None:
    evaluation = Induction(config).evaluate(induction_oracle, n_future=4)
    names = [score.name for score in evaluation.scores if "accuracy" in score.name]
    assert names == ["repeat_accuracy"] + [f"repeat_accuracy_offset_{offset}" for offset in (2, 3, 4)]
    assert evaluation.scores[0].name == "repeat_accuracy"
    for score in evaluation.scores:
        assert score.count > 0
        if "accuracy" in score.name:
            assert score.value == 1.0 == score.ceiling
        else:
            assert not score.higher_is_better
            assert score.value < score.chance
    assert len(evaluation.loss) == 4


@pytest.mark.parametrize("config", [SMALL, PIECES])
def test_chance_is_what_guessing_within_the_block_gets(config: InductionConfig) -> None:
    generator = seeded_generator(0)
    task = Induction(config)
    batch = task.sample(4000, generator)
    source = (torch.rand(batch.tokens.shape, generator=generator) * batch.info["distance"][:, None]).long()
    guesses = batch.tokens.gather(1, source)
    accuracy = (guesses == batch.tokens)[batch.score_mask].double().mean()
    assert abs(float(accuracy) - task.chance[0]) < 0.004


def test_the_test_set_is_fixed_and_samples_follow_the_generator() -> None:
    task, again = Induction(SMALL), Induction(SMALL)
    assert torch.equal(task.test_batch(10).tokens, again.test_batch(64).tokens[:10])
    assert len(task.test_batch(1000).tokens) == 64
    first, second = task.sample(4, seeded_generator(5)), again.sample(4, seeded_generator(5))
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.tokens, task.sample(4, seeded_generator(6)).tokens)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_distance": 0}, "write at least 1"),
        ({"min_distance": 9, "max_distance": 8}, "do not make a range"),
        ({"max_distance": 63}, "write max_distance <= 62"),
        ({"d_vocab": 1}, "write at least 2"),
        ({"min_distance": 1, "repeats": "pieces"}, "write min_distance >= 2"),
    ],
)
def test_wrong_configurations_say_what_to_write(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        InductionConfig(**fields)


def test_a_quick_evaluation_uses_the_first_rows_and_a_full_one_all() -> None:
    task = Induction(InductionConfig(d_vocab=20, test_rows=20, quick_rows=6))
    scored = task.test_batch(20).score_mask.sum(dim=1)
    assert task.evaluate(induction_oracle).scores[0].count == int(scored[:6].sum())
    assert task.evaluate(induction_oracle, full=True).scores[0].count == int(scored.sum())
