"""A whole model built by hand whose circuit is known: previous-token heads, induction heads that copy, and nothing else.

Attention only, learned positions. The residual stream is cut into blocks of `d_vocab` dimensions, as wide as one head:

    block        holds                                                     written by
    token        one-hot of the current token                              embedding
    position     turning codes of the position, and flags                  position embedding
    prediction   one-hot of what is predicted, read by the unembedding     future head k, head 0
    back 1       one-hot of the token 1 before                             trunk head blocks.0.0
    back 2 ..    one-hot of the token 2 before, .. up to n_future          trunk head blocks.0.1, ..

- `blocks.0.(k - 1)` attends k tokens back, by position, and copies that token from block `token` to block `back k`. Where there
  is no such position it attends to position 0.
- `future_heads.(k - 1).0` is the k-ahead induction head: its query is the current token, its key is block `back k`, so that it
  attends to every position that lies k after an earlier occurrence of the current token; its value is the token there, which
  it copies to `prediction`. Positions below k, where `back k` holds no true past, are kept out by a flag. Without a match it
  attends alike to all positions from k on.
- All other heads have small random weights and matter nothing.

For n_future = 1 that is the induction circuit of Elhage et al. 2021: `blocks.0.0` -> (key) `future_heads.0.0` -> unembedding.
Every embedding has the same norm and each norm's weight is the size of the stream, so that norms hand the stream on unchanged.
"""

import math

import torch
from torch import Tensor

from playground.config import ModelConfig, Normalization
from playground.model.layers import Attention, Norm
from playground.model.transformer import MTPTransformer
from playground.results import Head

SHARPNESS = 30.0
"""By how many nats the key that a head is built to attend to stands above all others, before the softmax."""
TOKEN, POSITION, PREDICTION, BACK = range(4)
"""Numbers of the blocks of the stream; block `back k` is BACK + k - 1."""
LOGIT = 20.0
"""Logit of the predicted token, above 0 for all others."""


def back_head(k: int = 1) -> Head:
    """The trunk head that attends k tokens back; `back_head()` is the previous-token head."""
    return Head("blocks.0", k - 1)


def induction_head(k: int = 1) -> Head:
    """The head of future head k that attends to what came k after an earlier occurrence of the current token."""
    return Head(f"future_heads.{k - 1}", 0)


@torch.no_grad()
def induction_model(
    n_future: int = 1,
    d_vocab: int = 32,
    n_ctx: int = 64,
    normalization: Normalization = "RMS",
    noise: float = 0.01,
    seed: int = 0,
) -> MTPTransformer:
    """One trunk layer and `n_future` future heads, each predicting its offset by induction (see the module).

    Right on every token whose earlier occurrences all had the same successor: on random repeats whose distance is at most
    `d_vocab` (task `induction`, `probe_tokens`) on all scored tokens. With `LN`, take at least 24 tokens: the mean that it
    takes away is about the same for all positions only when they have many dimensions.
    """
    config = ModelConfig(
        n_layers=1 + n_future,
        n_future=n_future,
        n_heads=3 + n_future,
        d_model=(3 + n_future) * d_vocab,
        mlp="none",
        positions="standard",
        normalization=normalization,
        d_vocab=d_vocab,
        n_ctx=n_ctx,
    )
    model = MTPTransformer(config, torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        parameter.mul_(noise)  # what is not written below stays small and random
    one = torch.eye(d_vocab)
    codes, angles = _codes(n_ctx, d_vocab, n_future)
    model.embed.weight[:, _span(TOKEN, d_vocab)] += one
    model.pos_embed.weight[:, _span(POSITION, d_vocab)] += codes
    model.unembed.weight[:, _span(PREDICTION, d_vocab)] += LOGIT * one
    size = 2 + n_future  # squared: token, code and flags
    set_norm(model.blocks[0].ln1, size)
    set_norm(model.ln_final, size + n_future + 1)
    for k, future in enumerate(model.future_heads, start=1):
        set_norm(future.ln1, size + n_future)
        _set_back_head(model.blocks[0].attn, k, angles)
        _set_induction_head(future.attn, k, flag=2 * len(angles) + k - 1)
    return model


def _set_back_head(attention: Attention, k: int, angles: Tensor) -> None:
    """Head k - 1: the query is turned k positions back, so that its code equals that of the key k tokens before."""
    width = attention.d_head
    sharp = SHARPNESS / (1 - angles.cos()).mean().item()  # over the difference between neighbouring codes
    one, turn = torch.eye(width), sharp * _turn(angles, k, width)
    set_head(attention, k - 1, q={POSITION: turn}, k={POSITION: one}, v={TOKEN: one}, o={BACK + k - 1: one})


def _set_induction_head(attention: Attention, k: int, flag: int) -> None:
    """Head 0: current token against the token k before; the flag is this row of the position block."""
    one = torch.eye(attention.d_head)
    flags = torch.zeros_like(one)
    flags[flag] = 1  # queries are one-hot, so that this adds the key's flag to every score
    keys = {BACK + k - 1: one, POSITION: flags}
    set_head(attention, 0, q={TOKEN: SHARPNESS * one}, k=keys, v={TOKEN: one}, o={PREDICTION: one})


def _codes(n_ctx: int, d_vocab: int, n_flags: int) -> tuple[Tensor, Tensor]:
    """Rows `[n_ctx, d_vocab]` of norm 1 that turn from position to position, then the flags: -1 below position k, else 1.

    Also the angles by which each pair of dimensions turns a position.
    """
    n_angles = (d_vocab - n_flags) // 2
    angles = 2 * math.pi * torch.arange(1, n_angles + 1) / (1.1 * n_ctx)  # no two positions share a code
    position = torch.arange(n_ctx)
    phase = torch.outer(position, angles)
    turning = torch.stack((phase.cos(), phase.sin()), dim=2).flatten(1) / math.sqrt(n_angles)
    flags = torch.where(position[:, None] < torch.arange(1, n_flags + 1), -1.0, 1.0)
    rest = torch.zeros(n_ctx, d_vocab - 2 * n_angles - n_flags)
    return torch.cat((turning, flags, rest), dim=1), angles


def _turn(angles: Tensor, steps: int, size: int) -> Tensor:
    """`[size, size]`: code of a position @ this = code of the position `steps` before."""
    matrix = torch.zeros(size, size)
    for i, angle in enumerate((angles * steps).tolist()):
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
    return matrix


def set_norm(norm: Norm, squared_size: float) -> None:
    """A weight that gives back to a stream of this size what the norm divides by."""
    norm.weight.fill_(math.sqrt(squared_size / len(norm.weight)))


def _span(block: int, width: int) -> slice:
    return slice(block * width, (block + 1) * width)


def set_head(attention: Attention, head: int, **parts: dict[int, Tensor]) -> None:
    """Add to one head's q, k and v (`[block of the stream, d_head]`) and o (`[d_head, block of the stream]`)."""
    width = attention.d_head
    own = _span(head, width)
    qkv = dict(zip("qkv", attention.qkv.weight.chunk(3), strict=True))
    for part, blocks in parts.items():
        for block, matrix in blocks.items():
            if part == "o":
                attention.out.weight[_span(block, width), own] += matrix.T
            else:
                scale = math.sqrt(width) if part == "q" else 1.0  # which attention divides by
                qkv[part][own, _span(block, width)] += scale * matrix.T
