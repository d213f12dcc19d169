"""Pairs against the worked row, a slow loop and the tasks they are made from."""

from typing import Any

import pytest
import torch

from playground.probes.pairs import Pairs, make_pairs, source_mask
from tasks.base import Batch, seeded_generator
from tasks.registry import make_task
from tasks.targets import IGNORED, future_targets, score_targets
from tests.cases import make_batch, random_tokens

TASKS: list[tuple[str, dict[str, Any], int]] = [
    ("induction", {}, 1),
    ("induction", {"n_ctx": 40, "min_distance": 5, "max_distance": 9}, 1),
    ("induction", {}, 2),
    ("induction", {}, 4),
    ("stories", {"test_stories": 20}, 1),
    ("polynomial", {}, 1),
]


def _pairs(batch: Batch, seed: int = 0, **options: Any) -> Pairs:
    return make_pairs(batch, seeded_generator(seed), **options)


def _scored_at(tokens: torch.Tensor, *positions: int, **parts: torch.Tensor) -> Batch:
    """A batch in which only the tokens after these positions are scored."""
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, [position + 1 for position in positions]] = True
    return make_batch(tokens, score_mask=mask, **parts)


def _worked() -> Batch:
    """The docstring's row, and one whose answer, 9, is the only other that there is; queries 2 and 4."""
    return _scored_at(torch.tensor([[7, 2, 5, 8, 1, 7, 2, 5], [7, 4, 9, 8, 1, 7, 4, 9]]), 6)


@pytest.mark.parametrize(
    ("corrupt", "corrupted"), [("answer", [7, 2, 9, 8, 1, 7, 2, 5]), ("match", [7, 4, 5, 8, 1, 7, 2, 5])]
)
def test_the_worked_row(corrupt, corrupted):
    pairs = _pairs(_worked(), corrupt=corrupt)
    assert pairs.clean[0].tolist() == [7, 2, 5, 8, 1, 7, 2, 5]
    assert pairs.corrupted[0].tolist() == corrupted
    assert [int(value[0]) for value in (pairs.query, pairs.source, pairs.answer, pairs.wrong)] == [6, 2, 5, 9]
    assert pairs.roles()[0] == ("other", "before source", "source", "other", "other", "other", "query", "other")


@pytest.mark.parametrize("corrupt", ["answer", "match"])
@pytest.mark.parametrize(("task", "fields", "offset"), TASKS)
def test_on_tasks_every_row_is_what_it_promises(task, fields, offset, corrupt):
    batch = make_task(task, **fields).test_batch(20)
    pairs = _pairs(batch, offset=offset, corrupt=corrupt, rows=12)
    scored = score_targets(batch, 1)
    answers = set(future_targets(batch, offset)[scored != IGNORED].tolist())
    numbers = [next(i for i, row in enumerate(batch.tokens) if torch.equal(row, clean)) for clean in pairs.clean]
    assert numbers == sorted(set(numbers)) and len(numbers) == 12
    for row, number in enumerate(numbers):
        clean, corrupted = pairs.clean[row].tolist(), pairs.corrupted[row].tolist()
        query, answer, wrong = (int(value[row]) for value in (pairs.query, pairs.answer, pairs.wrong))
        sources = pairs.sources[row].nonzero().flatten().tolist()
        assert scored[number, query] != IGNORED and clean[query + offset] == answer
        assert wrong in answers - {answer, clean[query]}
        assert sources and sources[-1] == int(pairs.source[row]) < query
        assert all(clean[s] == answer and clean[s - offset] == clean[query] for s in sources)
        exchanged = [position for position, token in enumerate(clean) if corrupted[position] != token]
        assert exchanged == (sources if corrupt == "answer" else [s - offset for s in sources])
        put_in = {corrupted[position] for position in exchanged}
        assert len(put_in) == 1 and not put_in & {answer, clean[query]}
        if corrupt == "answer":
            assert put_in == {wrong}
        roles = pairs.roles()[row]
        assert [t for t, role in enumerate(roles) if role == "source"] == sources
        assert [t for t, role in enumerate(roles) if role == "before source"] == [s - offset for s in sources]
        assert [t for t, role in enumerate(roles) if role == "query"] == [query]


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_source_mask_equals_a_loop(offset):
    tokens, random = random_tokens(rows=20, length=16, d_vocab=4), torch.rand(20, 16, generator=seeded_generator(1))
    documents = (random < 0.15).long().cumsum(dim=1)
    documents[:, 14:] = -1
    batch = make_batch(tokens, documents=documents, score_mask=random < 0.7, loss_mask=random < 0.9)
    found = source_mask(batch, offset)
    assert found.any()
    for row in range(20):
        line, document = tokens[row].tolist(), documents[row].tolist()
        for q in range(16):
            expected = {
                j + offset
                for j in range(q)
                if q + offset < 16 and line[j] == line[q] and j + offset <= q and line[j + offset] == line[q + offset]
            }
            asked = (
                q + offset < 16
                and document[q] == document[q + offset] >= 0
                and bool(batch.score_mask[row, q + 1])
                and bool(batch.loss_mask[row, q + offset])
                and line[q + offset] != line[q]
                and any(document[s - offset] == document[q] for s in expected)
            )
            assert set(found[row, q].nonzero().flatten().tolist()) == (expected if asked else set())


def test_all_sources_are_exchanged_alike_and_other_followers_stay():
    tokens = torch.tensor([[2, 5, 1, 2, 5, 3, 2, 6, 2, 5], [2, 9, 1, 2, 9, 3, 2, 6, 2, 9]])
    pairs = _pairs(_scored_at(tokens, 8))
    assert pairs.corrupted[0].tolist() == [2, 9, 1, 2, 9, 3, 2, 6, 2, 5]
    assert pairs.source.tolist() == [4, 4]


def test_a_query_with_one_source_goes_before_one_with_more():
    tokens = torch.tensor([[2, 5, 1, 2, 5, 3, 2, 5, 1, 2, 5]])
    assert source_mask(_scored_at(tokens, 3, 6, 9)).sum(dim=2)[0, [3, 6, 9]].tolist() == [1, 2, 3]
    batch = _scored_at(torch.cat([tokens, tokens + 10]), 3, 6, 9)
    assert all(_pairs(batch, seed).query.tolist() == [3, 3] for seed in range(5))


def test_an_occurrence_in_another_document_makes_no_query_but_is_exchanged_with_the_others():
    tokens = torch.tensor([[2, 5, 1, 4, 2, 5, 3, 2, 5], [2, 9, 1, 4, 2, 9, 3, 2, 9]])
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1]).expand(2, -1).clone()
    assert not source_mask(_scored_at(tokens, 4, documents=documents)).any()
    pairs = _pairs(_scored_at(tokens, 7, documents=documents))
    assert pairs.corrupted[0].tolist() == [2, 9, 1, 4, 2, 9, 3, 2, 5]


def test_what_is_drawn_depends_on_the_generator_alone():
    batch = make_task("induction").test_batch(16)
    first, second, other = (_pairs(batch, seed) for seed in (3, 3, 4))
    assert torch.equal(first.corrupted, second.corrupted) and torch.equal(first.query, second.query)
    assert not torch.equal(first.query, other.query)


def test_rows_and_device_keep_everything_together():
    pairs = _pairs(make_task("induction").test_batch(6), offset=2).to("cpu")
    some = pairs.rows(torch.tensor([4, 1]))
    assert some.offset == 2 and some.clean.shape[0] == 2
    assert some.roles() == (pairs.roles()[4], pairs.roles()[1])
    assert some.wrong.tolist() == pairs.wrong[[4, 1]].tolist()


@pytest.mark.parametrize(
    ("tokens", "options", "says"),
    [
        ([[1, 2, 3, 4, 5]], {}, "1 after an earlier occurrence"),  # nothing repeats
        ([[1, 2, 3, 1, 3, 2]], {}, "another answer could stand there"),  # goes on otherwise
        ([[2, 2, 2, 2, 2, 2]], {}, "in none of the 1 rows"),  # the answer is the query's own token
        ([[1, 2, 1, 2]], {}, "in none of the 1 rows"),  # no other answer than these two
        ([[1, 2, 3, 1, 2, 3]], {"offset": 6}, "6 after an earlier occurrence"),
        ([[1, 2, 3, 1, 2, 3]], {"offset": 0}, "offsets start at 1"),
        ([[1, 2, 3, 1, 2, 3]], {"rows": 0}, "write at least 1"),
    ],
)
def test_rows_without_a_query_are_an_error_that_says_what_is_needed(tokens, options, says):
    with pytest.raises(ValueError, match=says):
        _pairs(make_batch(torch.tensor(tokens)), **options)


def test_rows_without_a_query_are_left_out():
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 1, 2, 3]])
    assert _pairs(make_batch(tokens)).clean.tolist() == [[1, 2, 3, 1, 2, 3]]
