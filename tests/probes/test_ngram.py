"""The n-gram baseline on chains whose order is known."""

import itertools

import numpy as np
import pytest
import torch

from playground.probes.ngram import OUTSIDE, Examples, examples, ngram_accuracy, ngram_predictions
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
    train, test = (examples(make_batch(tokens[part]), labels[part]) for part in (slice(150), slice(150, 200)))
    right = (ngram_predictions(train, test) == test.labels.numpy()).mean(axis=1)
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


def _listed(found: Examples) -> list[tuple[tuple[int, ...], int]]:
    """The tokens that there are, and the label."""
    contexts = [tuple(token for token in context if token != OUTSIDE) for context in found.contexts.tolist()]
    return list(zip(contexts, found.labels.tolist(), strict=True))


def _of(*listed: tuple[tuple[int, ...], int]) -> Examples:
    contexts = [[OUTSIDE] * (3 - len(context)) + list(context) for context, _ in listed]
    return Examples(contexts=torch.tensor(contexts), labels=torch.tensor([label for _, label in listed]))


def test_examples_stay_in_their_document():
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    batch = make_batch(tokens, documents=torch.tensor([[0, 0, 0, 1, 1, -1]]))
    assert _listed(examples(batch, future_targets(batch, 1))) == [((1,), 2), ((1, 2), 3), ((4,), 5)]
    assert _listed(examples(batch, torch.where(tokens == 5, 9, IGNORED))) == [((4, 5), 9)]
    assert _listed(examples(batch, torch.where(tokens == 3, 9, IGNORED))) == [((1, 2, 3), 9)]


def test_unseen_contexts_back_off_to_the_most_frequent_label():
    train = _of(((1, 2, 3), 7), ((1, 2, 3), 7), ((4, 2, 3), 8), ((5, 5, 5), 8), ((6, 6, 6), 8))
    found = ngram_predictions(train, _of(((1, 2, 3), 0), ((9, 2, 3), 0), ((4, 2, 3), 0), ((9, 9, 9), 0), ((3,), 0)))
    assert found.T.tolist() == [[8, 7, 7, 7], [8, 7, 7, 7], [8, 7, 7, 8], [8, 8, 8, 8], [8, 7, 7, 7]]


def test_of_equally_frequent_labels_it_is_the_smallest():
    train = _of(((1, 2), 9), ((1, 2), 5), ((3,), 6), ((3,), 9), ((3,), 6), ((4,), 5))
    assert ngram_predictions(train, _of(((1, 2), 0))).T.tolist() == [[5, 5, 5, 5]]


def _slowly(train: Examples, context: tuple[int, ...], order: int) -> int:
    """The plain version: the likeliest label after the longest suffix, of up to `order` tokens, that occurs."""
    for length in range(min(order, len(context)), -1, -1):
        suffix = context[len(context) - length :]
        after = [
            label for other, label in _listed(train) if len(other) >= length and other[len(other) - length :] == suffix
        ]
        if after:
            return min(set(after), key=lambda label: (-after.count(label), label))
    raise AssertionError("even no token at all never occurs")


@pytest.mark.parametrize("documents", [[0] * 12, [0] * 5 + [1] * 7])
def test_against_a_slow_count(documents):
    train, test = (
        make_batch(random_tokens(rows=rows, d_vocab=4, seed=rows), documents=torch.tensor(documents).expand(rows, -1))
        for rows in (12, 8)
    )
    known, asked = (examples(batch, future_targets(batch, 2)) for batch in (train, test))
    found = ngram_predictions(known, asked)
    for number, (context, _) in enumerate(_listed(asked)):
        assert found[:, number].tolist() == [_slowly(known, context, order) for order in range(4)]
    right = [np.mean(found[order] == asked.labels.numpy()) for order in range(4)]
    assert ngram_accuracy(known, asked) == max(right)


def test_large_vocabularies_do_not_overflow():
    tokens = torch.tensor([[2**40 + 1, 2**40 + 2, 2**40 + 3, 2**40 + 4]] * 3)
    found = examples(make_batch(tokens), future_targets(make_batch(tokens), 1))
    assert ngram_accuracy(found, found) == 1.0


def test_without_examples_there_is_no_number():
    none, one = examples(make_batch(torch.ones(1, 1, dtype=torch.long)), torch.full((1, 1), IGNORED)), _of(((1,), 2))
    assert np.isnan(ngram_accuracy(none, one)) and np.isnan(ngram_accuracy(one, none))
    with pytest.raises(ValueError, match="write at least one position with a label"):
        ngram_predictions(none, one)
