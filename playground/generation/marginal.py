"""Marginal acceptance: how often each offset is right at every position, not only where drafts are made. Used to choose trees.

The rows are prompts with their plain greedy continuations. At position t, from the last prompt token on, offset k is right if
its most probable token is the token x_{t+k} of the row. Worked row, prompt of two tokens, continuation c d e:

    position     0   1   2   3   4
    tokens       a   b   c   d   e
    offset 2     .   d   e   -   -      counted at 1 and 2; right if it predicts the token shown
    offset 3     .   e   -   -   -      counted at 1

Dimension letters: B row, T position, K offset (from 2 on), R rank, V d_vocab.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.model.evaluation_mode import evaluation_mode
from playground.model.transformer import MTPTransformer
from playground.results import MarginalAcceptance


def marginal_acceptance(
    model: MTPTransformer, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int]
) -> MarginalAcceptance:
    """Acceptance of each offset's most probable token at every position of `rows` (prompt + greedy continuation).

    Offset k is counted at the positions t with t + k inside the row; `count` is that of offset 2, further offsets have up to
    n_future - 2 fewer per row. NaN where nothing is counted. A `sequential` head reads the true tokens in between.
    Raises ValueError unless there is one prompt length per row, from 1 to the row's length, and for rows longer than n_ctx.
    """
    logits_BTKV, ahead_BTK = _ahead(model, rows, prompt_lengths)
    counts_BTK = ahead_BTK >= 0
    right_BTK = (logits_BTKV.argmax(dim=-1) == ahead_BTK) & counts_BTK
    all_right_BTK = right_BTK.cumprod(dim=2).bool()
    before_BTK = torch.cat([torch.ones_like(counts_BTK[..., :1]), all_right_BTK[..., :-1]], dim=2) & counts_BTK
    return MarginalAcceptance(
        offsets=tuple(range(2, model.n_future + 1)),
        rate=_share(right_BTK, counts_BTK),
        conditional=_share(all_right_BTK, before_BTK),
        count=int(counts_BTK[..., :1].sum()),
    )


def candidate_hits(
    model: MTPTransformer, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int], candidates: int
) -> Float[np.ndarray, "offset candidate"]:
    """Share `[offset 2 .. n, rank]` of positions at which candidate r of offset k is the true token; input of `best_tree`.

    Zero where no position is counted, since no such draft has been seen to be right. Positions as in `marginal_acceptance`.
    Raises ValueError for a number of candidates below 1 or above d_vocab, unless there is one prompt length per row, from 1 to
    the row's length, and for rows longer than n_ctx.
    """
    logits_BTKV, ahead_BTK = _ahead(model, rows, prompt_lengths)
    if not 1 <= candidates <= logits_BTKV.shape[-1]:
        raise ValueError(f"candidates is {candidates}; write 1 to {logits_BTKV.shape[-1]}, the size of the vocabulary")
    ranked_BTKR = logits_BTKV.topk(candidates, dim=-1).indices
    hits_BTKR = ranked_BTKR == ahead_BTK[..., None]
    return np.stack([np.nan_to_num(_share(hits_BTK, ahead_BTK >= 0)) for hits_BTK in hits_BTKR.unbind(dim=-1)], axis=-1)


def _share(right_BTK: Bool[Tensor, "batch pos offset"], of_BTK: Bool[Tensor, "batch pos offset"]) -> np.ndarray:
    """Share `[offset]` of the counted positions that are right; NaN where none is counted."""
    right, of = (mask.sum(dim=(0, 1)).double().cpu().numpy() for mask in (right_BTK, of_BTK))
    return np.where(of > 0, right / np.maximum(of, 1), np.nan)


def _ahead(
    model: MTPTransformer, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int]
) -> tuple[Float[Tensor, "batch pos offset d_vocab"], Int[Tensor, "batch pos offset"]]:
    """Logits of the offsets 2 .. n at every position, and the true token: -1 inside prompts and past the rows' ends."""
    _check(rows, prompt_lengths, model.n_ctx)
    device, offsets = model.W_E.device, tuple(range(2, model.n_future + 1))
    length = max(map(len, rows))
    tokens_BT = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)
    ahead_BTK = torch.full((len(rows), length, len(offsets)), -1, device=device)
    for index, (row, prompt) in enumerate(zip(rows, prompt_lengths, strict=True)):
        for column, offset in enumerate(offsets):
            ahead_BTK[index, prompt - 1 : max(len(row) - offset, 0), column] = tokens_BT[
                index, prompt - 1 + offset : len(row)
            ]
    if not offsets:
        return torch.zeros(len(rows), length, 0, model.W_E.shape[0], device=device), ahead_BTK
    with evaluation_mode(model), torch.no_grad():  # padding comes after the rows: causal attention never reads it
        return model(tokens_BT, offsets), ahead_BTK


def _check(rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int], n_ctx: int) -> None:
    if len(rows) != len(prompt_lengths) or not len(rows):
        raise ValueError(f"there are {len(rows)} rows and {len(prompt_lengths)} prompt lengths; write one length a row")
    for row, prompt in zip(rows, prompt_lengths, strict=True):
        if not 1 <= prompt <= len(row):
            raise ValueError(f"a prompt of {prompt} tokens in a row of {len(row)}; write 1 to {len(row)}")
        if len(row) > n_ctx:
            raise ValueError(f"a row of {len(row)} tokens is longer than the context of {n_ctx}; cut it")
