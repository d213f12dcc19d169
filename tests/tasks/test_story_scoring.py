"""Which names are scored, what guessing and recency reach on them, and the order in which characters were last named."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.base import seeded_generator
from tasks.stories import Stories
from tasks.story_recency import best_guess, recency
from tasks.story_scoring import scored_sets
from tests.tasks.test_stories import build, generated


class Guess:
    """A uniform guess among the second parts of the row's own story."""

    def __init__(self, task: Stories) -> None:
        self.d_vocab, self.start = task.d_vocab, generated(task).second_start

    def __call__(self, tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        logits = torch.full((*tokens.shape, len(offsets), self.d_vocab), -50.0)
        generator = seeded_generator(0)
        for row, values in enumerate(tokens.tolist()):
            parts = sorted({token for token in values if token >= self.start})
            tiny = torch.rand(len(values), len(offsets), len(parts), generator=generator) * 1e-6
            logits[row][:, :, parts] = tiny
        return logits


def test_a_guess_among_the_characters_scores_chance():
    task = build(test_stories=150)
    accuracy, loss, *_ = task.evaluate(Guess(task)).scores
    assert accuracy.value == pytest.approx(accuracy.chance, abs=0.03)
    assert loss.value == pytest.approx(loss.chance, abs=0.03)
    assert 1 / 4 < accuracy.chance < 1 / 2
    assert build(min_characters=4).evaluate(Guess(task)).scores[0].chance == 1 / 4


def slow_recency(rows: list[list[int]], names: list[list[bool]], scored: list[list[bool]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for row, are_names, are_scored in zip(rows, names, scored, strict=True):
        order: list[int] = []
        for token, is_name, is_scored in zip(row, are_names, are_scored, strict=True):
            if is_scored:
                found.append((order.index(token), len(order)))
            if is_name:
                order = [token, *(other for other in order if other != token)]
    return found


def test_the_worked_row_of_recency() -> None:
    rin, ra, lek = 1, 2, 3
    tokens = torch.tensor([[rin, ra, ra, rin, lek, rin]])
    scored = torch.tensor([[False, False, True, True, False, True]])
    ranks, named = recency(tokens, torch.ones_like(scored), scored)
    assert (ranks.tolist(), named.tolist()) == ([0, 1, 1], [2, 2, 3])


@pytest.mark.parametrize("at_once", [1, 2**20])
def test_recency_agrees_with_a_slow_reading(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.story_recency.AT_ONCE", at_once)
    task = build(test_stories=30)
    source = generated(task)
    batch = source.every_mention(task.test_batch(30))
    names = (batch.tokens >= source.second_start) & batch.real
    ranks, named = recency(batch.tokens, names, batch.score_mask)
    expected = slow_recency(batch.tokens.tolist(), names.tolist(), batch.score_mask.tolist())
    assert list(zip(ranks.tolist(), named.tolist(), strict=True)) == expected


def test_the_best_guess_is_the_most_frequent_outcome_of_each_group() -> None:
    outcomes, groups = torch.tensor([0, 0, 1, 2, 2, 2, 2]), torch.tensor([0, 0, 0, 0, 3, 3, 3])
    accuracy, loss = best_guess(outcomes, groups)
    assert accuracy == pytest.approx((2 + 3) / 7)
    assert loss == pytest.approx((2 * 0.6931 + 2 * 1.3863) / 7, abs=1e-4)
    assert best_guess(torch.tensor([1]), torch.tensor([0])) == (1.0, 0.0)


@pytest.mark.parametrize("fields", [{}, {"scenery": 0.6}, {"n_ctx": 64, "n_templates": 48, "n_words": 8}])
def test_in_scored_names_every_character_is_equally_likely_whoever_was_named_before(fields: dict[str, Any]) -> None:
    task = build(**fields)
    source = generated(task)
    batch = source.test_set(2500, 5)
    ranks, named = recency(batch.tokens, (batch.tokens >= source.second_start) & batch.real, batch.score_mask)
    assert torch.equal(named, batch.info["characters"][batch.score_mask])  # the whole cast is in
    for cast in (2, 3, 4):
        counts = ranks[named == cast].bincount(minlength=cast)
        expected = counts.sum() / cast
        squares = ((counts - expected) ** 2 / expected).sum()
        assert squares < 16, (
            f"of {cast} characters the ranks were {counts.tolist()}"
        )  # 0.1% for three degrees of freedom


def test_chance_of_every_mention_is_what_the_best_ranks_get() -> None:
    task = build(test_stories=300)
    source = generated(task)
    free = task.test_batch(300)
    every = source.every_mention(free)
    names = (every.tokens >= source.second_start) & every.real
    found = slow_recency(every.tokens.tolist(), names.tolist(), every.score_mask.tolist())
    counts: dict[tuple[int, bool], Counter[int]] = defaultdict(Counter)
    for (rank, named), is_free in zip(found, free.score_mask[every.score_mask].tolist(), strict=True):
        counts[named, is_free][rank] += 1
    _, scored = scored_sets(free, every)
    assert scored.chance[0] == pytest.approx(sum(max(each.values()) for each in counts.values()) / len(found))
    assert 0.45 < scored.chance[0] < 0.55
    assert scored.chance[1] < float(torch.log(every.info["characters"][every.score_mask].double()).mean())


def test_the_scores_begin_with_that_of_free_names_and_both_have_their_own_count() -> None:
    task = build()
    headline, _, paper, _ = task.evaluate(Guess(task)).scores
    assert (headline.name, paper.name) == ("free_name_accuracy", "second_name_token_accuracy")
    assert headline.count < paper.count == int(generated(task).every_mention(task.test_batch(100)).score_mask.sum())
    assert headline.chance < paper.chance


def test_a_context_that_ends_before_the_first_free_name_is_refused() -> None:
    with pytest.raises(ValueError, match="write a larger n_ctx"):
        build(n_ctx=16, min_characters=4, test_stories=5)
