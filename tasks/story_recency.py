"""How long ago a character was last named, and what a rule reaches that knows nothing but that.

Where a name stands again, the characters of the story so far have an order: the one named last has rank 0, the one before it
rank 1, and so on. A rule that looks at that order, and not at the first part of the name, says a second part too; so what it
reaches is what a score on names has to be compared with. Worked row, of second parts only:

    mention     rin   ra   ra  rin  lek  rin
    rank          -    -    0    1    -    1
    named         -    -    2    2    -    3

Dimension letters: B row, T token, C character.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

AT_ONCE = 2**20
"""Tokens that are looked at together."""


def recency(
    tokens: Int[Tensor, "batch pos"], names: Bool[Tensor, "batch pos"], scored: Bool[Tensor, "batch pos"]
) -> tuple[Int[Tensor, " scored"], Int[Tensor, " scored"]]:
    """The rank of each scored second part, and how many characters were named before it, in the order of `tokens[scored]`.

    `names` marks all second parts; the scored ones are some of them, and not the first of their kind. A row holds one story.
    """
    rows = max(1, AT_ONCE // tokens.shape[1])
    parts = [_recency(*part) for part in zip(*(each.split(rows) for each in (tokens, names, scored)), strict=True)]
    return torch.cat([rank for rank, _ in parts]), torch.cat([named for _, named in parts])


def best_guess(outcomes: Int[Tensor, " n"], groups: Int[Tensor, " n"]) -> tuple[float, float]:
    """What guessing reaches that knows how frequent each outcome is in each group: accuracy, and loss in nats.

    The accuracy is the share of the most frequent outcome, the loss the entropy, both as means over all. Outcomes and groups
    are numbers from 0 on, and there is at least one.
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
    number_BT = (is_new.cumsum(dim=1) - 1).where(is_new, most)  # the last column takes what is no new character
    cast_BC = tokens.new_full((len(tokens), most + 1), -1).scatter(1, number_BT, tokens)[:, :most]
    is_named_BTC = (tokens[:, :, None] == cast_BC[:, None, :]) & names[:, :, None]
    last_BTC = position_T[:, None].where(is_named_BTC, -1).cummax(dim=1).values
    before_BTC = torch.cat([torch.full_like(last_BTC[:, :1], -1), last_BTC[:, :-1]], dim=1)
    own_BT = before_BTC.where(is_named_BTC, -1).amax(dim=2)
    rank_BT = (before_BTC > own_BT[:, :, None]).sum(dim=2)
    return rank_BT[scored], (before_BTC >= 0).sum(dim=2)[scored]
