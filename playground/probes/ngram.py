"""What needs no model: predicting labels from the last tokens alone, by counting.

The likeliest label after the last 3, 2, 1 or 0 tokens of the document, as counted on the examples given; a context that
did not occur backs off to one token less (the simplest of back-offs; Katz 1987 has a better one, for probabilities).
Without any token it is the most frequent label.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from jaxtyping import Int
from torch import Tensor

from tasks.base import Batch
from tasks.targets import IGNORED

LONGEST = 3
Context = tuple[int, ...]
Example = tuple[Context, int]
"""The last tokens up to a position, and the position's label."""


def examples(batch: Batch, labels: Int[Tensor, "batch pos"]) -> Iterator[Example]:
    """Every position that has a label, with up to `LONGEST` tokens of its document: the position's own and those before."""
    for tokens, documents, row in zip(batch.tokens.tolist(), batch.documents.tolist(), labels.tolist(), strict=True):
        for t, label in enumerate(row):
            if label != IGNORED:
                first = max(0, t - LONGEST + 1)
                yield tuple(tokens[s] for s in range(first, t + 1) if documents[s] == documents[t]), label


class NGram:
    """Counts of labels after contexts of up to `LONGEST` tokens.

    >>> ngram = NGram([((1, 2), 5), ((1, 2), 5), ((3, 2), 6), ((4, 4), 7)])
    >>> ngram.predict((1, 2), 2), ngram.predict((3, 2), 2), ngram.predict((3, 2), 1), ngram.predict((9, 9), 2)
    (5, 6, 5, 5)
    """

    def __init__(self, train: Iterable[Example]) -> None:
        counts: defaultdict[Context, Counter[int]] = defaultdict(Counter)
        for context, label in train:
            for start in range(len(context) + 1):
                counts[context[start:]][label] += 1
        self._likeliest = {context: labels.most_common(1)[0][0] for context, labels in counts.items()}

    def predict(self, context: Context, order: int) -> int:
        """The likeliest label after the last `order` tokens, or after fewer where these never occurred."""
        for start in range(max(0, len(context) - order), len(context)):
            if context[start:] in self._likeliest:
                return self._likeliest[context[start:]]
        return self._likeliest[()]


def ngram_accuracy(train: Iterable[Example], test: Iterable[Example]) -> float:
    """Accuracy of the best order, 0 to `LONGEST`, on `test`; NaN when either holds no example.

    The order is the one that does best on `test` itself, which favours the baseline over what is compared with it.
    """
    train, test = list(train), list(test)
    if not train or not test:
        return float("nan")
    ngram = NGram(train)
    right = [sum(ngram.predict(context, order) == label for context, label in test) for order in range(LONGEST + 1)]
    return max(right) / len(test)
