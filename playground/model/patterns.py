"""What ideal heads attend to, as masks over [query, key]: by token match, and the token before.

Dimension letters: B batch, T query position, S key position.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def match_mask(tokens: Int[Tensor, "*rest pos"], ahead: int) -> Bool[Tensor, "*rest pos pos"]:
    """True at [q, j + ahead] for every earlier j < q that holds the same token as q, as far as j + ahead <= q.

    `ahead` 1 marks what an induction head attends to, 0 what a duplicate-token head does. For the row 7 2 7:

    >>> match_mask(torch.tensor([7, 2, 7]), 1).int().tolist()
    [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    """
    same = tokens.unsqueeze(-1) == tokens.unsqueeze(-2)
    earlier = same.tril(-1)
    mask = torch.zeros_like(same)
    mask[..., ahead:] = earlier[..., : max(0, tokens.shape[-1] - ahead)]  # none where the row is shorter
    return mask.tril(0)


def previous_token_mask(tokens: Int[Tensor, "batch pos"], back: int = 1) -> Bool[Tensor, "batch pos pos"]:
    """True at [q, q - back]."""
    length = tokens.shape[1]
    diagonal = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
    return (diagonal.tril(-back) & diagonal.triu(-back)).expand(tokens.shape[0], -1, -1)
