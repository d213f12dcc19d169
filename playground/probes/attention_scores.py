"""Attention scores of every attention head, by token match (Olsson et al. 2022, 2209.11895, with its erratum).

- previous token: mean of A[q, q-1] over q >= 1. k back: the same with q-k; what a 2-ahead induction head needs to read is
  which token came 2 back. On rows of a task only those q count that a (k-ahead) induction head attends to.
- k-ahead induction: for every query q whose token occurred before, the SUM of A[q, j+k] over all earlier j with
  tokens[j] = tokens[q] and j+k <= q; mean over such q. k = 1 is prefix matching, the induction score; k-ahead is what a head
  needs in order to predict the token k ahead.
- duplicate token: the same with A[q, j].

Worked row, query 4 (the second 2): an ideal induction head attends to position 2 (5 followed the first 2), an ideal
2-ahead head to position 3, a duplicate-token head to position 1, a previous-token head to position 3.

    position    0   1   2   3   4
    token       7   2   5   7   2

By token match, never by diagonal: on repeats of one fixed length a head that attends a fixed distance back would pass a
diagonal test and know nothing. An ideal head reads 1.0 on its score. The null band of a score is the 99th percentile of the
same mean with the targets moved: for matches the tokens are permuted, all positions of the batch by one permutation; for
the previous token each query's target is a random position before it or its own.

Dimension letters: B batch, T query position, S key position, L layer, H attention head, N draws of the null, M targets.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.model.patterns import match_mask, previous_token_mask
from playground.model.transformer import MTPTransformer
from playground.probes.quiet import all_offsets, quietly
from playground.results import AttentionScores
from tasks.base import Batch
from tasks.targets import IGNORED, score_targets

NULL_DRAWS = 100
PROBE_CTX = 64
MOST_AHEAD = 4
"""k-ahead scores are measured up to this k, or up to n_future where that is larger."""


def masked_attention(
    pattern: Float[Tensor, "batch heads pos pos"], mask: Bool[Tensor, "batch pos pos"]
) -> Float[Tensor, " heads"]:
    """Attention summed over the masked keys, mean over the queries that have any; NaN when none has."""
    queries = mask.any(dim=-1)
    total = torch.einsum("bhts,bts->h", pattern, mask.to(pattern.dtype))
    return total / queries.sum()


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


def scored_queries(batch: Batch) -> Bool[Tensor, "batch pos"]:
    """True at every position whose next token is scored by the task."""
    return score_targets(batch, 1) != IGNORED


def attention_patterns(
    model: MTPTransformer, tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "batch head pos pos"]]:
    """Attention pattern of every layer, by the layer's name, trunk first. Leaves no hook behind."""
    patterns: dict[str, Tensor] = {}

    def keep(pattern: Tensor, hook: object) -> None:
        patterns[str(getattr(hook, "name", "")).removesuffix(".attn.hook_pattern")] = pattern.float()

    with quietly(model, [(lambda name: name.endswith("hook_pattern"), keep)]):
        z = model.trunk(tokens.to(model.W_E.device))
        for offset in all_offsets(model):
            model.future_resid(z, offset)
    return patterns


def attention_scores(
    model: MTPTransformer,
    tokens: Int[Tensor, "batch pos"],
    generator: torch.Generator,
    *,
    queries: Bool[Tensor, "batch pos"] | None = None,
    rows_from: str = "random repeats",
) -> AttentionScores:
    """All scores of every attention head of trunk and future heads on `tokens`, with their null bands.

    `queries` restricts the scores by token match to these queries, and the previous-token score to the positions that an
    ideal induction head attends to from there. `generator` (on the CPU) draws the null bands.
    """
    ahead = max(MOST_AHEAD, model.n_future)
    return AttentionProbe(tokens, generator, queries=queries, rows_from=rows_from, most_ahead=ahead)(model)


class AttentionProbe:
    """The scores on fixed rows, made ready to be measured many times: `AttentionProbe(tokens, generator)(model)`."""

    def __init__(
        self,
        tokens: Int[Tensor, "batch pos"],
        generator: torch.Generator,
        *,
        queries: Bool[Tensor, "batch pos"] | None = None,
        rows_from: str = "random repeats",
        most_ahead: int = MOST_AHEAD,
    ) -> None:
        self.tokens, self.rows_from = tokens.cpu(), rows_from
        allowed = torch.ones_like(self.tokens, dtype=torch.bool) if queries is None else queries.cpu()
        self.most_ahead = most_ahead
        permuted_NBT = _permuted(self.tokens, generator)
        masks, nulls = [], []
        for back in range(1, most_ahead + 1):
            here = torch.ones_like(allowed) if queries is None else _sources(self.tokens, back, allowed)
            masks.append(previous_token_mask(self.tokens, back) & here[..., None])
            nulls.append(_random_targets(self.tokens, generator) & here[..., None])
        for ahead in range(most_ahead + 1):
            masks.append(match_mask(self.tokens, ahead) & allowed[..., None])
            nulls.append(match_mask(permuted_NBT, ahead) & allowed[..., None])
        self._targets = [_Targets(mask[None]) for mask in masks]
        self._nulls = [_Targets(mask) for mask in nulls]

    def __call__(self, model: MTPTransformer) -> AttentionScores:
        patterns = attention_patterns(model, self.tokens)
        n_heads = next(iter(patterns.values())).shape[1]
        attention_BTSLH = torch.stack(list(patterns.values()), dim=1).permute(0, 3, 4, 1, 2)
        flat = attention_BTSLH.flatten(0, 2).flatten(1, 2)  # every query and key, every head
        device = flat.device
        values = torch.stack([targets.to(device).mean(flat)[0] for targets in self._targets])
        null = torch.stack(
            [torch.nan_to_num(targets.to(device).mean(flat)).quantile(0.99, dim=0) for targets in self._nulls]
        )
        score, band = (part.unflatten(1, (-1, n_heads)).double().cpu().numpy() for part in (values, null))
        backs = slice(0, self.most_ahead)
        duplicate, aheads = self.most_ahead, slice(self.most_ahead + 1, None)
        return AttentionScores(
            layers=tuple(patterns), rows_from=self.rows_from,
            back=score[backs], duplicate_token=score[duplicate], ahead=score[aheads],
            null_back=band[backs], null_duplicate_token=band[duplicate], null_ahead=band[aheads],
        )  # fmt: skip


def _sources(tokens: Tensor, ahead: int, queries: Tensor) -> Tensor:
    """Positions that an ideal k-ahead head attends to from any of the queries, `[batch, pos]`."""
    return (match_mask(tokens, ahead) & queries[..., None]).any(dim=1)


class _Targets:
    """Masks `[draw, batch, pos, pos]` as lists of places, so that only those are looked at: masks are almost empty."""

    def __init__(self, masks_NBTS: Tensor) -> None:
        flat_NM = masks_NBTS.flatten(1)
        draw, self.places = flat_NM.nonzero(as_tuple=True)
        counts = torch.bincount(draw, minlength=len(flat_NM))
        self.starts = counts.cumsum(0) - counts
        self.queries = masks_NBTS.any(dim=-1).sum(dim=(1, 2))

    def to(self, device: torch.device) -> "_Targets":
        if self.places.device != device:
            self.places, self.starts, self.queries = (
                part.to(device) for part in (self.places, self.starts, self.queries)
            )
        return self

    def mean(self, attention: Float[Tensor, "places heads"]) -> Float[Tensor, "draw heads"]:
        """Attention summed over each draw's places, over its number of queries; NaN when there are none."""
        total = F.embedding_bag(self.places, attention, self.starts, mode="sum")
        return total / self.queries[:, None]


def _permuted(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The same rows with their positions permuted, `[draw, batch, pos]`."""
    keys = torch.rand(NULL_DRAWS, tokens.shape[1], generator=generator)
    return tokens[:, keys.argsort(dim=1)].transpose(0, 1)


def _random_targets(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """One random target at or before every query but the first, `[draw, batch, pos, pos]`."""
    rows, length = tokens.shape
    draws = torch.rand(NULL_DRAWS, rows, length, 1, generator=generator)
    positions = (draws * torch.arange(1, length + 1)[:, None]).long()
    mask = torch.zeros(NULL_DRAWS, rows, length, length, dtype=torch.bool).scatter_(-1, positions, True)
    mask[:, :, 0] = False
    return mask
