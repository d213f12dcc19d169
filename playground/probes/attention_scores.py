"""Previous-token and prefix-matching (induction) scores of every attention head (Olsson et al. 2022, 2209.11895).

- previous token: mean of A[i, i-1] over i >= 1.
- prefix matching: for every query q whose token occurred before, the SUM of A[q, j+1] over all earlier j with
  tokens[j] = tokens[q]; mean over such q. By token match, never by diagonal: on repeats of one fixed length a head that
  attends a fixed distance back would pass a diagonal test and know nothing.

An ideal head reads 1.0 on its score. The null band of a score is the 99th percentile of the same mean with the targets
moved: for prefix matching the tokens are permuted, all positions of the batch by one permutation; for the previous token
each query's target is a random position before it or its own.

Dimension letters: B batch, T query position, S key position, L layer, H attention head, N draws of the null.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.results import AttentionScores

NULL_DRAWS = 100
PROBE_CTX = 64


def match_mask(tokens: Int[Tensor, "*rest pos"], ahead: int) -> Bool[Tensor, "*rest pos pos"]:
    """True at [q, j + ahead] for every earlier j < q that holds the same token as q, as far as j + ahead <= q.

    `ahead` 1 marks what an induction head attends to, 0 what a duplicate-token head does. For the row 7 2 7:

    >>> match_mask(torch.tensor([7, 2, 7]), 1).int().tolist()
    [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    """
    same = tokens.unsqueeze(-1) == tokens.unsqueeze(-2)
    earlier = same.tril(-1)
    mask = torch.zeros_like(same)
    mask[..., ahead:] = earlier[..., : tokens.shape[-1] - ahead]
    return mask.tril(0)


def masked_attention(
    pattern: Float[Tensor, "batch heads pos pos"], mask: Bool[Tensor, "batch pos pos"]
) -> Float[Tensor, " heads"]:
    """Attention summed over the masked keys, mean over the queries that have any; NaN when none has."""
    queries = mask.any(dim=-1)
    total = torch.einsum("bhts,bts->h", pattern, mask.to(pattern.dtype))
    return total / queries.sum()


def previous_token_mask(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos pos"]:
    """True at [q, q - 1]."""
    length = tokens.shape[1]
    diagonal = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
    return (diagonal.tril(-1) & diagonal.triu(-1)).expand(tokens.shape[0], -1, -1)


def probe_tokens(d_vocab: int, n_ctx: int, generator: torch.Generator, rows: int = 16) -> Int[Tensor, "batch pos"]:
    """Rows of random tokens that repeat at a distance which differs from row to row (up to 64 tokens long).

    Within a block no token comes again before all others of the vocabulary have.
    """
    length = min(n_ctx, PROBE_CTX)
    longest = max(2, length // 2)
    shortest = max(2, longest // 4)
    distance_B1 = torch.randint(shortest, longest + 1, (rows, 1), generator=generator)
    orders = torch.rand(rows, -(-longest // d_vocab), d_vocab, generator=generator).argsort(dim=2)
    blocks = orders.flatten(1)[:, :longest]
    return blocks.gather(1, torch.arange(length) % distance_B1)


@torch.no_grad()
def attention_patterns(
    model: MTPTransformer, tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "batch head pos pos"]]:
    """Attention pattern of every layer, by the layer's name, trunk first. Leaves no hook behind."""
    patterns: dict[str, Tensor] = {}

    def keep(pattern: Tensor, hook: object) -> None:
        name = str(getattr(hook, "name", "")).removesuffix(".attn.hook_pattern")
        patterns[name] = pattern.float()

    was_training = model.training
    model.eval()
    offsets = tuple(range(1, model.n_future + 1))
    try:
        hooks: list[Any] = [(lambda name: name.endswith("hook_pattern"), keep)]
        model.run_with_hooks(tokens.to(model.W_E.device), offsets, fwd_hooks=hooks)
    finally:
        model.train(was_training)
    return patterns


def attention_scores(
    model: MTPTransformer, tokens: Int[Tensor, "batch pos"], generator: torch.Generator
) -> AttentionScores:
    """Both scores of every attention head of trunk and future heads on `tokens`, with their null bands.

    `generator` (on the CPU) draws the null bands.
    """
    patterns = attention_patterns(model, tokens)
    stacked_BLHTS = torch.stack([pattern.cpu() for pattern in patterns.values()], dim=1)
    n_heads = stacked_BLHTS.shape[2]
    flat = stacked_BLHTS.flatten(1, 2)
    tokens = tokens.cpu()

    def table(values: Tensor) -> np.ndarray:
        return values.reshape(-1, n_heads).double().numpy()

    return AttentionScores(
        layers=tuple(patterns),
        previous_token=table(masked_attention(flat, previous_token_mask(tokens))),
        prefix_matching=table(masked_attention(flat, match_mask(tokens, 1))),
        null_previous_token=table(_null(flat, _random_targets(tokens, generator))),
        null_prefix_matching=table(_null(flat, _permuted_matches(tokens, generator))),
    )


def _permuted_matches(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Prefix-matching targets `[draw, batch, pos, pos]` of the same rows with their positions permuted."""
    keys = torch.rand(NULL_DRAWS, tokens.shape[1], generator=generator)
    permuted_NBT = tokens[:, keys.argsort(dim=1)].transpose(0, 1)
    return match_mask(permuted_NBT, 1)


def _random_targets(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """One random target at or before every query but the first, `[draw, batch, pos, pos]`."""
    rows, length = tokens.shape
    draws = torch.rand(NULL_DRAWS, rows, length, 1, generator=generator)
    positions = (draws * torch.arange(1, length + 1)[:, None]).long()
    mask = torch.zeros(NULL_DRAWS, rows, length, length, dtype=torch.bool).scatter_(-1, positions, True)
    mask[:, :, 0] = False
    return mask


def _null(pattern_BHTS: Tensor, masks_NBTS: Tensor) -> Tensor:
    """99th percentile over draws of each head's mean attention to the masked keys."""
    queries_N = masks_NBTS.any(dim=-1).sum(dim=(1, 2))
    masks = masks_NBTS.to(pattern_BHTS.dtype).flatten(2).permute(1, 2, 0)
    total_HN = torch.bmm(pattern_BHTS.flatten(2), masks).sum(dim=0)
    return torch.nan_to_num(total_HN / queries_N).quantile(0.99, dim=1)
