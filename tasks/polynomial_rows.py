"""From polynomial expressions to the rows of a batch: packing, masks, and fingerprints of expressions.

Dimension letters: N expression, E expression of a row, B row, T position, L token of an expression.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tasks.base import Batch
from tasks.polynomial_expressions import Expressions
from tasks.polynomial_grammar import Grammar

LossOn = Literal["answer", "all"]


def pack(
    expressions: Expressions, excluded: Bool[Tensor, " n"], n_rows: int, n_ctx: int, grammar: Grammar, loss_on: LossOn
) -> Batch:
    """Rows of n / `n_rows` consecutive expressions each, cut at `n_ctx` tokens or padded up to it.

    No token of an `excluded` expression is a target or scored. `places` is the number of tokens of the expression that follow,
    so that "=" and each coefficient of the answer have one place in all expressions.
    """
    length_BE = expressions.length.reshape(n_rows, -1)
    end_BE = length_BE.cumsum(dim=1)
    position_T = torch.arange(n_ctx, device=end_BE.device)
    which_BT = torch.searchsorted(end_BE, position_T.expand(n_rows, -1).contiguous(), right=True)
    is_token = which_BT < end_BE.shape[1]
    which_BT = which_BT.clamp(max=end_BE.shape[1] - 1)

    def of_expression(values: Tensor) -> Tensor:
        return values.reshape(n_rows, -1).gather(1, which_BT)

    to_come_BT = of_expression(end_BE) - position_T  # tokens of the expression from this one on
    width = expressions.tokens.shape[1]
    within_BT = (of_expression(length_BE) - to_come_BT).clamp(max=width - 1)
    tokens = expressions.tokens.reshape(n_rows, -1).gather(1, which_BT * width + within_BT)
    counts = is_token & ~of_expression(excluded)
    is_answer = counts & (to_come_BT <= grammar.coefficients)
    is_target = is_answer
    if loss_on == "all":
        is_target = counts & (within_BT > 0) & (tokens != grammar.token("."))
    return Batch(
        tokens=tokens.where(is_token, grammar.token("_")),
        loss_mask=is_target,
        score_mask=is_answer,
        documents=which_BT.where(is_token, -1),
        info={"operations": of_expression(expressions.operations).where(is_token, 0)},
        places=(to_come_BT - 1).where(is_token, -1),
    )


def places_of(tokens: Int[Tensor, "batch pos"], grammar: Grammar) -> Int[Tensor, "batch pos"]:
    """Number of tokens of its expression that follow each token; without "=", it is assumed right after the row's end."""
    length = tokens.shape[1]
    position_T = torch.arange(length, device=tokens.device).expand_as(tokens)
    is_equals, begins = tokens == grammar.token("="), tokens == grammar.token("|")
    next_BT = position_T.where(is_equals, length).flip(1).cummin(dim=1).values.flip(1)
    last_BT, begin_BT = (position_T.where(marks, -1).cummax(dim=1).values for marks in (is_equals, begins))
    equals_BT = last_BT.where((last_BT >= 0) & (last_BT >= begin_BT), next_BT)
    return (grammar.coefficients + equals_BT - position_T).clamp(min=0)


def fingerprints(expressions: Expressions, grammar: Grammar) -> Int[Tensor, " n"]:
    """A 64-bit hash of each expression; collisions are very unlikely."""
    tokens = expressions.tokens
    factors = torch.full((tokens.shape[1],), 6364136223846793005, device=tokens.device).cumprod(dim=0)
    return ((tokens + 1) * factors).where(tokens != grammar.token("_"), 0).sum(dim=1)


def are_among(values: Int[Tensor, " n"], ordered: Int[Tensor, " m"]) -> Bool[Tensor, " n"]:
    """True for each of `values` that occurs in `ordered`, which must be sorted."""
    if not len(ordered):
        return torch.zeros_like(values, dtype=torch.bool)
    place = torch.searchsorted(ordered, values).clamp(max=len(ordered) - 1)
    return ordered[place] == values
