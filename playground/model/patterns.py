"""Attention targets of ideal heads as masks over [query, key]: earlier positions with a matching token, the previous token.

Dimension letters: B batch, T query position, S key position.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def match_mask(tokens: Int[Tensor, "*rest pos"], ahead: int) -> Bool[Tensor, "*rest pos pos"]:
    """True at [q, j + ahead] for every earlier position j < q whose token equals that of q, provided that j + ahead <= q.

    `ahead` 1 gives the targets of an induction head, 0 those of a duplicate-token head. For the row 7 2 7:

    >>> match_mask(torch.tensor([7, 2, 7]), 1).int().tolist()
    [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    """
    same = tokens.unsqueeze(-1) == tokens.unsqueeze(-2)
    earlier = same.tril(-1)
    mask = torch.zeros_like(same)
    mask[..., ahead:] = earlier[..., : max(0, tokens.shape[-1] - ahead)]  # no match if the row is shorter than `ahead`
    return mask.tril(0)


def previous_token_mask(tokens: Int[Tensor, "batch pos"], back: int = 1) -> Bool[Tensor, "batch pos pos"]:
    """True at [q, q - back] for every query q >= back."""
    length = tokens.shape[1]
    diagonal = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
    return (diagonal.tril(-back) & diagonal.triu(-back)).expand(tokens.shape[0], -1, -1)
