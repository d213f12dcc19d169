"""Exact match of polynomial answers, in one forward and by greedy decoding (equal results), and the best answer without
arithmetic.

Greedy decoding reproduces an answer exactly if and only if each of its tokens is the most probable one after the right
tokens before it. So one teacher-forced forward (`exact_matches`) gives the result of decoding with one forward per
token (`greedy_answers`, the plain version; a test compares the two).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.base import Batch, Predict
from tasks.scoring import TeacherForced, teacher_forced
from tasks.targets import IGNORED, score_targets


def exact_matches(
    predict: Predict, batches: Sequence[Batch], n_future: int
) -> tuple[TeacherForced, Bool[Tensor, " n"]]:
    """Teacher-forced means, and for each row of all batches, True if every scored token is right."""
    likeliest: list[Tensor] = []

    def watched(tokens: Int[Tensor, "batch pos"], offsets: Sequence[int]) -> Float[Tensor, "batch pos offset d_vocab"]:
        logits_BTKV = predict(tokens, offsets)
        likeliest.append(logits_BTKV[:, :, 0].argmax(dim=-1))
        return logits_BTKV

    result = teacher_forced(watched, batches, n_future)
    right: list[Tensor] = []
    for batch, likeliest_BT in zip(batches, likeliest, strict=True):
        targets_BT = score_targets(batch, 1)
        right.append(((likeliest_BT == targets_BT) | (targets_BT == IGNORED)).all(dim=1).cpu())
    return result, torch.cat(right)


@torch.no_grad()
def greedy_answers(predict: Predict, batch: Batch, coefficients: int) -> Int[Tensor, "batch coef"]:
    """Greedy answers of `predict` to rows of one expression each, without access to their answers.

    Prompts differ in length and are padded on the right, which a causal model does not read.
    """
    row_B = torch.arange(len(batch.tokens), device=batch.tokens.device)
    first_B = batch.score_mask.long().argmax(dim=1)
    tokens = batch.tokens.masked_fill(batch.score_mask, 0)
    for step in range(coefficients):
        logits_BTV = predict(tokens, (1,))[:, :, 0]
        tokens[row_B, first_B + step] = logits_BTV[row_B, first_B + step - 1].argmax(dim=-1)
    return tokens[batch.score_mask].view(len(tokens), coefficients)


def without_arithmetic(batch: Batch, prime: int, coefficients: int) -> float:
    """Share of rows, one expression each, for which the best answer without arithmetic is right.

    That answer is one of three: the most frequent answer of all rows, the expression's first polynomial, or its last one. The
    choice depends on the first token of the expression (in prefix notation, the operation computed last).
    """
    answers = batch.tokens[batch.score_mask].view(-1, coefficients)
    constant = _most_frequent_row(answers)
    is_digit = (batch.tokens < prime) & ~batch.score_mask
    count = is_digit.long().cumsum(dim=1)
    first = batch.tokens[is_digit & (count <= coefficients)].view(-1, coefficients)
    last = batch.tokens[is_digit & (count > count[:, -1:] - coefficients)].view(-1, coefficients)
    right = torch.stack([(guess == answers).all(dim=1) for guess in (constant, first, last)], dim=1)
    by_token = torch.zeros(int(batch.tokens.max()) + 1, 3, dtype=torch.long, device=batch.tokens.device)
    by_token.index_add_(0, batch.tokens[:, 1], right.long())
    return int(by_token.amax(dim=1).sum()) / len(answers)


def _most_frequent_row(rows: Tensor) -> Tensor:
    different, counts = rows.unique(dim=0, return_counts=True)
    return different[counts.argmax()]
