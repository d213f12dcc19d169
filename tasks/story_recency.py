"""Recency ranks of characters, and the score of the best rule that uses only recency.

At each repeated mention, the characters named so far have an order: the one named last has rank 0, the one named before it
rank 1, and so on. A rule that uses this order, and not the first part of the name, also predicts a second part; so a score on
names must be compared with what this rule reaches. Worked row, only second parts:

    mention     rin   ra   ra  rin  lek  rin
    rank          -    -    0    1    -    1
    named         -    -    2    2    -    3

Dimension letters: B row, T token, C character.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

AT_ONCE = 2**20
"""Tokens processed at once."""


def recency(
    tokens: Int[Tensor, "batch pos"], names: Bool[Tensor, "batch pos"], scored: Bool[Tensor, "batch pos"]
) -> tuple[Int[Tensor, " scored"], Int[Tensor, " scored"]]:
    """The rank of each scored second part, and the number of characters named before it, in the order of `tokens[scored]`.

    `names` marks all second parts; `scored` marks some of these, never the first mention of a character. One story per row.
    """
    rows = max(1, AT_ONCE // tokens.shape[1])
    parts = [_recency(*part) for part in zip(*(each.split(rows) for each in (tokens, names, scored)), strict=True)]
    return torch.cat([rank for rank, _ in parts]), torch.cat([named for _, named in parts])


def best_guess(outcomes: Int[Tensor, " n"], groups: Int[Tensor, " n"]) -> tuple[float, float]:
    """Accuracy and loss (nats) of the best guess that knows the frequency of each outcome in each group.

    The accuracy is the share of the group's most frequent outcome, the loss the entropy in the group, both as means over all
    entries. Outcomes and groups are numbers from 0 on; at least one entry.
    """
    counts = torch.zeros(int(groups.max()) + 1, int(outcomes.max()) + 1, dtype=torch.float64)
    counts.index_put_((groups, outcomes), torch.ones(len(groups), dtype=torch.float64), accumulate=True)
    shares = counts / counts.sum(dim=1, keepdim=True)
    loss = -(counts * shares.log()).where(counts > 0, 0).sum()
    return float(counts.amax(dim=1).sum()) / len(groups), float(loss) / len(groups)


def _recency(tokens: Tensor, names: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    position_T = torch.arange(tokens.shape[1], device=tokens.device)
    key_BT = tokens.where(names, -1 - position_T)
    in_order, where = key_BT.sort(dim=1, stable=True)
    is_new = torch.ones_like(names)
    is_new[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    is_new = is_new.scatter(1, where, is_new) & names
    most = max(1, int(is_new.sum(dim=1).max()))
    number_BT = (is_new.cumsum(dim=1) - 1).where(is_new, most)  # the last column receives all other tokens
    cast_BC = tokens.new_full((len(tokens), most + 1), -1).scatter(1, number_BT, tokens)[:, :most]
    is_named_BTC = (tokens[:, :, None] == cast_BC[:, None, :]) & names[:, :, None]
    last_BTC = position_T[:, None].where(is_named_BTC, -1).cummax(dim=1).values
    before_BTC = torch.cat([torch.full_like(last_BTC[:, :1], -1), last_BTC[:, :-1]], dim=1)
    own_BT = before_BTC.where(is_named_BTC, -1).amax(dim=2)
    rank_BT = (before_BTC > own_BT[:, :, None]).sum(dim=2)
    return rank_BT[scored], (before_BTC >= 0).sum(dim=2)[scored]
