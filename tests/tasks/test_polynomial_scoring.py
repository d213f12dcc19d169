"""What answers without arithmetic get, against a plain reading of the test set."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tasks.base import Batch
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.polynomial_grammar import Notation

SMALL = {"prime": 2, "coefficients": 2, "n_ctx": 64, "test_per_m": 40, "quick_per_m": 10, "hold_out": False}


def read(batch: Batch) -> tuple[list[list[int]], list[int]]:
    """The expressions of a test batch without padding, and their numbers of operations."""
    lengths = batch.real.sum(dim=1).tolist()
    rows = [row[:length] for row, length in zip(batch.tokens.tolist(), lengths, strict=True)]
    return rows, batch.info["operations"][:, 0].tolist()


def knows_nothing(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
    return torch.zeros(*tokens.shape, len(offsets), 12)


@pytest.mark.parametrize("notation", ["prefix", "infix"])
def test_chance_is_what_the_best_answers_without_arithmetic_get(notation: Notation) -> None:
    task = Polynomial(PolynomialConfig(**SMALL | {"notation": notation}))
    prime, equals = task.config.prime, task.config.grammar.token("=")
    expected: list[float] = []
    for number in range(1, 11):
        rows = [row for row, m in zip(*read(task.test_batch(400)), strict=True) if m == number]
        answers = [tuple(row[-2:]) for row in rows]
        constant = max(answers, key=lambda answer: (answers.count(answer), [-digit for digit in answer]))
        right: dict[int, Counter[str]] = defaultdict(Counter)
        for row, answer in zip(rows, answers, strict=True):
            digits = [token for token in row[: row.index(equals)] if token < prime]
            guesses = {"constant": constant, "first": tuple(digits[:2]), "last": tuple(digits[-2:])}
            right[row[1]].update(name for name, guess in guesses.items() if guess == answer)
        expected.append(sum(max(counts.values(), default=0) for counts in right.values()) / len(rows))
    scores = task.evaluate(knows_nothing).scores
    assert [score.chance for score in scores[1:]] == pytest.approx(expected)
    assert scores[0].chance == pytest.approx(sum(expected[:5]) / 5)


def test_in_two_operations_the_first_polynomial_is_often_the_answer() -> None:
    """Negated twice it is, or composed with X: more than the most frequent answer gets."""
    task = Polynomial(
        PolynomialConfig(prime=5, coefficients=2, test_per_m=400, operations=("negation", "composition"), n_ctx=64)
    )
    rows = [row for row, m in zip(*read(task.test_batch(4000)), strict=True) if m == 2]
    most = Counter(tuple(row[-2:]) for row in rows).most_common(1)[0][1] / len(rows)
    assert task.chance(2) > most + 0.1
