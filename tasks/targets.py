"""Targets of each offset at each position. All shifts of tokens by an offset happen here.

Offset k predicts, from position t, the token at position t + k (Gloeckle et al. 2024, section 2; k = 1 is the next token).
Worked row, two documents and one token of padding, every token allowed as a target:

    position    0   1   2   3   4   5   6   7
    tokens     10  11  12  13  20  21  22   0
    documents   0   0   0   0   1   1   1  -1
    offset 1   11  12  13   -  21  22   -   -
    offset 2   12  13   -   -  22   -   -   -
    offset 3   13   -   -   -   -   -   -   -

A dash is IGNORED: the token would be past the end, in another document or in the padding, or may not be a target.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tasks.base import Batch

IGNORED = -100
"""The target that `torch.nn.functional.cross_entropy` skips by default."""


def future_targets(batch: Batch, offset: int) -> Int[Tensor, "batch pos"]:
    """Training targets of one offset: `tokens[t + offset]`, or IGNORED (see the table in the module's docstring).

    Raises ValueError for an offset below 1.
    """
    return _shift(batch, batch.loss_mask, offset)


def score_targets(batch: Batch, offset: int) -> Int[Tensor, "batch pos"]:
    """Scored targets of one offset: `tokens[t + offset]` where ALL of the tokens t+1 .. t+offset are scored, else IGNORED.

    A token two ahead is determined by the past only if the token before it is determined: so a determined sequence of
    tokens is scored for offset 2 from its second token on. Raises ValueError for an offset below 1.
    """
    mask = batch.score_mask
    for step in range(1, offset):
        mask = mask & _delayed(batch.score_mask, step)
    return _shift(batch, mask, offset)


def _delayed(mask: Bool[Tensor, "batch pos"], steps: int) -> Bool[Tensor, "batch pos"]:
    """The mask shifted `steps` to the right: row [1, 0, 0] becomes [0, 1, 0] for one step."""
    moved = torch.zeros_like(mask)
    moved[:, steps:] = mask[:, : max(mask.shape[1] - steps, 0)]
    return moved


def _shift(batch: Batch, mask: Bool[Tensor, "batch pos"], offset: int) -> Int[Tensor, "batch pos"]:
    if offset < 1:
        raise ValueError(f"offset is {offset}; offsets start at 1 (the next token)")
    targets = torch.full_like(batch.tokens, IGNORED)
    if offset < batch.tokens.shape[1]:
        same_document = batch.documents[:, offset:] == batch.documents[:, :-offset]
        valid = mask[:, offset:] & same_document & (batch.documents[:, offset:] >= 0)
        targets[:, :-offset] = torch.where(valid, batch.tokens[:, offset:], IGNORED)
    return targets
