"""The n-gram baseline on chains whose order is known."""

import itertools

import pytest
import torch

from playground.probes.ngram import NGram, examples, ngram_accuracy
from tasks.targets import IGNORED, future_targets
from tests.cases import make_batch, random_tokens


def _chain(order: int, rows: int = 40, length: int = 30, d_vocab: int = 5) -> torch.Tensor:
    """Rows in which each token is a fixed random function of the `order` before it, and of no fewer."""
    contexts = list(itertools.product(range(d_vocab), repeat=order))
    following = random_tokens(rows=1, length=len(contexts), d_vocab=d_vocab, seed=3)[0].tolist()
    table = dict(zip(contexts, following, strict=True))
    tokens = random_tokens(rows=rows, length=length, d_vocab=d_vocab)
    for row in tokens:
        for t in range(order, length):
            if t % 7 > order:  # what comes in between keeps the chain from falling into a cycle
                row[t] = table[tuple(row[t - order : t].tolist())]
    return tokens


def _labels(tokens: torch.Tensor, order: int) -> torch.Tensor:
    """The next token, where the chain decides it."""
    targets = future_targets(make_batch(tokens), 1)
    decided = torch.tensor([t >= order and t % 7 > order for t in range(1, tokens.shape[1] + 1)])
    return targets.masked_fill(~decided, IGNORED)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_exact_on_a_markov_chain_of_its_order(order):
    tokens = _chain(order, rows=200)
    labels = _labels(tokens, order)
    train, test = (list(examples(make_batch(tokens[part]), labels[part])) for part in (slice(150), slice(150, 200)))
    ngram = NGram(train)
    right = [sum(ngram.predict(context, o) == label for context, label in test) / len(test) for o in range(4)]
    assert right[order] == 1.0
    assert all(share < 0.8 for share in right[:order])
    assert ngram_accuracy(train, test) == 1.0


def test_two_ahead_on_a_chain_is_exact_from_the_current_token_alone():
    following = torch.tensor([3, 0, 4, 2, 1])
    columns = [torch.arange(5).repeat(4)]
    for _ in range(8):
        columns.append(following[columns[-1]])
    batch = make_batch(torch.stack(columns, dim=1))
    for ahead in (1, 2, 4):
        labels = future_targets(batch, ahead)
        assert ngram_accuracy(examples(batch, labels), examples(batch, labels)) == 1.0


def test_examples_stay_in_their_document():
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    batch = make_batch(tokens, documents=torch.tensor([[0, 0, 0, 1, 1, -1]]))
    assert list(examples(batch, future_targets(batch, 1))) == [((1,), 2), ((1, 2), 3), ((4,), 5)]
    assert list(examples(batch, torch.where(tokens == 5, 9, IGNORED))) == [((4, 5), 9)]
    assert list(examples(batch, torch.where(tokens == 3, 9, IGNORED))) == [((1, 2, 3), 9)]


def test_unseen_contexts_back_off_to_the_most_frequent_label():
    ngram = NGram([((1, 2, 3), 7), ((1, 2, 3), 7), ((4, 2, 3), 8), ((5, 5, 5), 8), ((6, 6, 6), 8)])
    assert [ngram.predict((1, 2, 3), order) for order in range(4)] == [8, 7, 7, 7]
    assert [ngram.predict((9, 2, 3), order) for order in range(4)] == [8, 7, 7, 7]
    assert ngram.predict((4, 2, 3), 3) == 8
    assert ngram.predict((9, 9, 9), 3) == ngram.predict((), 3) == 8


@pytest.mark.parametrize("order", range(4))
def test_against_a_slow_count(order):
    tokens = random_tokens(rows=30, d_vocab=3)
    batch = make_batch(tokens)
    found = list(examples(batch, future_targets(batch, 2)))
    ngram = NGram(found)
    for context, _ in found:
        suffix = context[max(0, len(context) - order) :]
        after = [label for other, label in found if other[max(0, len(other) - len(suffix)) :] == suffix]
        assert after.count(ngram.predict(context, order)) == max(after.count(label) for label in range(3))


def test_without_examples_there_is_no_number():
    assert ngram_accuracy([], [((1,), 2)]) != ngram_accuracy([], [((1,), 2)])
    assert ngram_accuracy([((1,), 2)], []) != ngram_accuracy([((1,), 2)], [])
