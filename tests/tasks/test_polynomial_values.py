"""Intermediate results against a recursive parser and galois, which share nothing with the code under test."""

import re
from collections.abc import Sequence
from typing import Any

import galois
import pytest
import torch

from tasks.base import Batch, seeded_generator
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.polynomial_values import NO_VALUE, intermediate_values
from tests.tasks.test_polynomial import Algebra


class Cut(Exception):
    """The row ended inside an expression."""


class Recorder:
    """Parses one document's words by recursive descent and notes what closes where, innermost first."""

    def __init__(self, algebra: Algebra, words: Sequence[str]) -> None:
        self.algebra, self.words = algebra, words
        self.at = 1  # behind "|"
        self.closed: list[tuple[int, list[int]]] = []
        try:
            self.parse()
            self.closed.pop()  # the whole expression
        except Cut:
            pass

    def take(self) -> str:
        if self.at == len(self.words):
            raise Cut
        self.at += 1
        return self.words[self.at - 1]

    def parse(self) -> galois.Poly:
        algebra, word = self.algebra, self.take()
        if word == "neg":
            value = -self.parse()
        elif word == "(":
            first, symbol, second = self.parse(), self.take(), self.parse()
            assert self.take() == ")"
            value = algebra.apply(symbol, first, second)
        elif word in ("+", "*", "o"):
            value = algebra.apply(word, self.parse(), self.parse())
        else:
            return algebra.poly([int(word), *(int(self.take()) for _ in range(algebra.size - 1))])
        self.closed.append((self.at - 1, algebra.coefficients(value)))
        return value


def expected_values(task: Polynomial, batch: Batch, algebra: Algebra) -> torch.Tensor:
    values = torch.full((*batch.tokens.shape, algebra.size), NO_VALUE)
    for row, (tokens, documents) in enumerate(zip(batch.tokens, batch.documents, strict=True)):
        for number in range(int(documents.max()) + 1):
            places = (documents == number).nonzero()[:, 0].tolist()
            recorder = Recorder(algebra, task.token_strings(tokens[places].tolist()))
            for place, value in recorder.closed:  # of several at one place the last, which is the largest
                values[row, places[place]] = torch.tensor(value)
    return values


@pytest.mark.parametrize(
    "fields",
    [
        {"notation": "prefix"},
        {"notation": "infix"},
        {"notation": "infix", "tree_shape": "chain", "pause": 3, "prime": 3, "coefficients": 2},
        {"notation": "prefix", "operations": ("composition", "negation"), "prime": 5, "coefficients": 3, "pause": 1},
        {"notation": "prefix", "tree_shape": "chain", "prime": 5, "coefficients": 2},
        {"notation": "infix", "operations": ("negation",), "prime": 2, "coefficients": 1},
    ],
)
def test_values_against_a_recursive_parser_and_galois(fields: dict[str, Any]) -> None:
    config = PolynomialConfig(test_per_m=20, quick_per_m=10, hold_out=False, **fields)
    task, algebra = Polynomial(config), Algebra(config.prime, config.coefficients)
    for batch in (task.sample(60, seeded_generator(0)), task.test_batch(100)):
        values = task.intermediate_values(batch)
        assert torch.equal(values, expected_values(task, batch, algebra))
        assert (values[..., 0] != NO_VALUE).sum() > 50
        assert torch.equal(values.amin(dim=2) == NO_VALUE, values.amax(dim=2) == NO_VALUE)


def _tokens(config: PolynomialConfig, text: str) -> torch.Tensor:
    words = {config.grammar.string(token): token for token in range(config.grammar.d_vocab)}
    return torch.tensor([[words[word] for word in text.split()]])


@pytest.mark.parametrize(
    ("notation", "text", "known"),
    [
        ("prefix", "| + neg 1 2 * 3 0 0 1 = 6 1", {4: [6, 5], 9: [0, 3]}),  # the docstring's
        ("infix", "| ( neg 1 2 + ( 3 0 * 0 1 ) ) = 6 1", {4: [6, 5], 12: [0, 3]}),
        ("prefix", "| + 1 2 3 0 = 4 2", {}),
        ("prefix", "| neg 1 2 . = 6 5", {}),
        ("prefix", "| neg neg neg 1 2 = 6 5", {5: [1, 2]}),  # the larger of the two proper ones
        ("infix", "| neg neg ( 1 2 + 1 1 ) = 2 3", {9: [5, 4]}),
        ("prefix", "| + neg 1 2 * 3 0 0", {4: [6, 5]}),  # cut
        ("prefix", "| + neg 1 2 neg 0 1 = 6 4 | + neg 0 1 1 1 = 1 0 _", {4: [6, 5], 7: [0, 6], 15: [0, 6]}),
        ("prefix", "1 2 + _", {}),  # before any expression begins
    ],
)
def test_rows_with_known_values(notation: Any, text: str, known: dict[int, list[int]]) -> None:
    config = PolynomialConfig(prime=7, coefficients=2, notation=notation)
    values = intermediate_values(_tokens(config, text), config.grammar)[0]
    assert {place: value for place, value in enumerate(values.tolist()) if value != [NO_VALUE] * 2} == known


@pytest.mark.parametrize(
    ("notation", "text", "until"),
    [
        ("prefix", "| + ( 1 2", "| + ("),
        ("prefix", "| + 1 neg 2", "| + 1 neg"),
        ("prefix", "| + 1 2 =", "| + 1 2 ="),
        ("prefix", "| )", "| )"),
        ("infix", "| ( 1 2 + 3 4 + 5 6 )", "| ( 1 2 + 3 4 +"),
        ("infix", "| ( + 1 2", "| ( +"),
        ("infix", "| ( 1 2 )", "| ( 1 2 )"),
        ("infix", "| + 1 2", "| +"),
        ("infix", "| neg )", "| neg )"),
    ],
)
def test_what_is_no_expression_is_shown_up_to_where_it_fails(notation: Any, text: str, until: str) -> None:
    config = PolynomialConfig(prime=7, coefficients=2, notation=notation)
    with pytest.raises(
        ValueError, match=re.escape(f"'{until}' is not the beginning of an expression in {notation} notation")
    ):
        intermediate_values(_tokens(config, text), config.grammar)


def test_tokens_of_another_task_are_no_expression() -> None:
    config = PolynomialConfig(prime=7, coefficients=2)
    bar = config.grammar.token("|")
    with pytest.raises(ValueError, match="read rows of this very task"):
        intermediate_values(torch.tensor([[bar, 63, 1]]), config.grammar)
