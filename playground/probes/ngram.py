"""An n-gram baseline: predicts labels from the last tokens by counting, without a model.

The prediction is the most frequent label after the last 3, 2, 1 or 0 tokens of the document, as counted on the given examples.
A context that did not occur backs off to one token less (the simplest back-off; Katz 1987 has a better one for probabilities).
Order 0, without tokens, is the most frequent label. Ties are decided for the smallest label.

Counting is done by sorting: for each order, every context of training and test examples together is mapped to one integer.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tasks.base import Batch
from tasks.targets import IGNORED

LONGEST = 3
OUTSIDE = -1
"""Stands for a token before the beginning of the document."""
NEVER = -1
"""Prediction for a context that did not occur."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled positions, each with the last `LONGEST` tokens up to it."""

    contexts: Int[Tensor, "example longest"]
    """The position's own token is last; OUTSIDE where the document has fewer tokens."""
    labels: Int[Tensor, " example"]

    def __len__(self) -> int:
        return len(self.labels)


def examples(batch: Batch, labels: Int[Tensor, "batch pos"]) -> Examples:
    """Every labelled position with up to `LONGEST` tokens of its document: its own token and those before it."""
    row, position = (labels != IGNORED).cpu().nonzero(as_tuple=True)
    tokens, documents = batch.tokens.cpu(), batch.documents.cpu()
    columns = []
    for back in reversed(range(LONGEST)):
        at = (position - back).clamp(min=0)
        inside = (position >= back) & (documents[row, at] == documents[row, position])
        columns.append(torch.where(inside, tokens[row, at].long(), OUTSIDE))
    return Examples(contexts=torch.stack(columns, dim=1), labels=labels.cpu()[row, position].long())


def ngram_predictions(train: Examples, test: Examples) -> Int[np.ndarray, "order example"]:
    """For each order, 0 to `LONGEST`, the likeliest label of each example of `test`, counted on `train`.

    Raises ValueError if `train` is empty.
    """
    if not len(train):
        raise ValueError("there is no example to count on; write at least one position with a label")
    contexts = np.concatenate([train.contexts.numpy(), test.contexts.numpy()])
    labels, number = np.unique(train.labels.numpy(), return_inverse=True)
    found = [np.full(len(test), labels[np.bincount(number).argmax()])]
    context = np.zeros(len(contexts), dtype=np.int64)
    whole = np.ones(len(contexts), dtype=bool)
    for order in range(1, LONGEST + 1):
        own = contexts[:, -order]
        whole &= own != OUTSIDE
        # The shorter context and one more token as one integer, renumbered from 0 so that it cannot overflow.
        context = np.unique(context * (contexts.max() + 2) + own + 1, return_inverse=True)[1]
        known, likeliest = _likeliest(context[: len(train)][whole[: len(train)]], number[whole[: len(train)]])
        of_context = np.full(context.max() + 1, NEVER)
        of_context[known] = likeliest
        predicted = np.where(whole, of_context[context], NEVER)[len(train) :]
        found.append(np.where(predicted == NEVER, found[-1], labels[predicted]))
    return np.stack(found)


def ngram_accuracy(train: Examples, test: Examples) -> float:
    """Accuracy of the best order, 0 to `LONGEST`, on `test`; NaN if `train` or `test` is empty.

    The order is chosen on `test` itself, which favours the baseline over the probe that is compared with it.
    """
    if not len(train) or not len(test):
        return float("nan")
    right = ngram_predictions(train, test) == test.labels.numpy()
    return float(right.mean(axis=1).max())


def _likeliest(contexts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each context once, with its most frequent label (the smallest of equally frequent ones)."""
    if not len(contexts):
        return contexts, labels
    most = labels.max() + 1
    pairs, counts = np.unique(contexts * most + labels, return_counts=True)
    context, label = np.divmod(pairs, most)
    best = np.lexsort((-label, counts, context))  # sorted by context, then count, then falling label: the last one wins
    last = np.flatnonzero(np.append(np.diff(context[best]) != 0, True))
    return context[best][last], label[best][last]
