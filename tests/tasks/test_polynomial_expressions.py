"""Two ways to evaluate expressions, which must agree: operation by operation, and by a table of all results."""

import pytest
import torch

from tasks.base import seeded_generator
from tasks.polynomial import PolynomialConfig
from tasks.polynomial_expressions import MOST_TABULATED, evaluate, evaluate_by_table, sample_trees


@pytest.mark.parametrize("operations", [("negation",), ("negation", "addition", "multiplication", "composition")])
@pytest.mark.parametrize(("prime", "coefficients"), [(2, 1), (2, 3), (3, 2), (5, 2), (7, 1), (3, 3), (2, 8)])
def test_the_table_gives_what_the_operations_give(prime: int, coefficients: int, operations: tuple[str, ...]) -> None:
    assert prime**coefficients <= MOST_TABULATED
    grammar = PolynomialConfig(prime=prime, coefficients=coefficients, operations=operations, n_ctx=256).grammar
    generator = seeded_generator(0)
    numbers = torch.randint(1, 7, (500,), generator=generator)
    trees = sample_trees(numbers, 6, grammar, generator)
    assert torch.equal(evaluate_by_table(trees, grammar), evaluate(trees, grammar))
