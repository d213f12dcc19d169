"""Attention scores of every attention head, by token match (Olsson et al. 2022, 2209.11895, with its erratum).

- previous token: mean of A[q, q-1] over q >= 1. k back: mean of A[q, q-k]; a 2-ahead induction head needs a head that attends 2
  back. On rows of a task only those q count that a (k-ahead) induction head attends to.
- k-ahead induction: for every query q whose token occurred before, the SUM of A[q, j+k] over all earlier j with
  tokens[j] = tokens[q] and j+k <= q; mean over such q. k = 1 is prefix matching, the induction score; a head needs a high
  k-ahead score in order to copy the token for offset k.
- duplicate token: the sum of A[q, j] over all earlier j with tokens[j] = tokens[q]; mean over such q.

Worked row, query 4 (the second 2): an ideal induction head attends to position 2 (5 followed the first 2), an ideal
2-ahead head to position 3, a duplicate-token head to position 1, a previous-token head to position 3.

    position    0   1   2   3   4
    token       7   2   5   7   2

Scores use token matches and never a fixed diagonal: on repeats of one fixed length a head that attends a fixed distance back
would pass a diagonal test without matching anything. An ideal head has a score of 1.0. The null band of a score is the 99th
percentile of the same mean with moved targets: for token matches all rows are permuted by one random order of the positions;
for k back each query's target is a random position at or before it. A null distribution that cannot be drawn gives a band of 1,
which no score exceeds. Padding matches nothing and is not permuted: many equal tokens at the end of a row would raise the null
band of every head.

Dimension letters: B batch, T query position, S key position, L layer, H attention head, N draws (0 is the score itself, the
others are its null distribution), M targets, A head of all replicas.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.figures.probe_maps import attention_along_figure, attention_figure
from playground.model.patterns import match_mask
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes.probe import Probe, probe_generator
from playground.probes.quiet import layer_names, quietly
from playground.probes.repeated import RepeatedProbe, device_of, joint_of, replicas_of
from playground.probes.rows import probe_batch
from playground.results import AttentionScores
from tasks.base import Batch, Task
from tasks.targets import IGNORED, score_targets

NULL_DRAWS = 100
PROBE_CTX = 64
PIECE = 128
"""Number of targets in one partial sum (see `_Targets`)."""
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
    """Rows of random tokens (`[batch, pos]`, up to 64 long) that repeat at a distance that differs from row to row.

    Within a block no token repeats before every token of the vocabulary has occurred.
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
    """Attention pattern `[batch, head, query, key]` of every layer that has one, by the layer's name, trunk first."""
    return of_patterns(model, tokens, lambda pattern: pattern)


def of_patterns(
    model: MTPTransformer,
    tokens: Int[Tensor, "batch pos"],
    figure: Callable[[Float[Tensor, "batch head pos pos"]], Tensor],
) -> dict[str, Tensor]:
    """`figure(pattern)` of every layer's attention pattern, by layer name; patterns are not kept, since all may be large."""
    found: dict[str, Tensor] = {}

    def keep(pattern: Tensor, hook: object) -> None:
        found[str(getattr(hook, "name", "")).removesuffix(".attn.hook_pattern")] = figure(pattern.float())

    with quietly(model, [(lambda name: name.endswith("hook_pattern"), keep)]):
        tokens = tokens.to(next(model.parameters()).device)
        model.future_resids(model.trunk(tokens), tokens)
    return {layer: found[layer] for layer in layer_names(model)}


def attention_scores(
    model: MTPTransformer,
    tokens: Int[Tensor, "batch pos"],
    generator: torch.Generator,
    *,
    queries: Bool[Tensor, "batch pos"] | None = None,
    real: Bool[Tensor, "batch pos"] | None = None,
    rows_from: str = "random repeats",
) -> AttentionScores:
    """All scores of every attention head of trunk and future heads on `tokens` (`[batch, pos]`), with their null bands.

    `real` marks the tokens that are no padding (`Batch.real`; None: all). `queries` restricts the scores by token match to
    these queries, and the previous-token score to the positions that an ideal induction head attends to from these. `generator`
    (on the CPU) draws the null distributions.
    """
    ahead = max(MOST_AHEAD, model.n_future)
    return AttentionProbe(tokens, generator, queries=queries, real=real, rows_from=rows_from, most_ahead=ahead)(model)


class AttentionProbe(RepeatedProbe[AttentionScores]):
    """The scores on fixed rows, prepared once and measured many times: `AttentionProbe(tokens, generator)(model)`."""

    def __init__(
        self,
        tokens: Int[Tensor, "batch pos"],
        generator: torch.Generator,
        *,
        queries: Bool[Tensor, "batch pos"] | None = None,
        real: Bool[Tensor, "batch pos"] | None = None,
        rows_from: str = "random repeats",
        most_ahead: int = MOST_AHEAD,
    ) -> None:
        self.tokens, self.rows_from, self.most_ahead = tokens.cpu(), rows_from, most_ahead
        real_BT = torch.ones_like(self.tokens, dtype=torch.bool) if real is None else real.cpu()
        allowed_BT = real_BT if queries is None else real_BT & queries.cpu()
        of_scores: list[_Targets] = []
        for back in range(1, most_ahead + 1):
            from_BT = real_BT if queries is None else _sources(self.tokens, back, allowed_BT, real_BT)
            of_scores.append(_back_targets(from_BT, back, generator))
        of_scores += _match_targets(self.tokens, allowed_BT, real_BT, most_ahead, generator)
        self._targets = _Targets.joined(of_scores)

    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica score_or_band score layer head"]:
        """Scores and null bands of each replica (band: the second largest draw of the null distribution)."""
        model, replicas = joint_of(models), len(replicas_of(models))
        device = device_of(models)
        self.tokens, targets = self.tokens.to(device), self._targets.to(device)

        def means(pattern: Tensor) -> Tensor:
            return targets.mean(rearrange(pattern, "(r b) head q k -> (b q k) (r head)", r=replicas))

        layers = of_patterns(model, self.tokens.repeat(replicas, 1), means)
        means_LMA = torch.stack(list(layers.values())).double()  # layer; score and draw; replica and head
        draws = rearrange(means_LMA, "layer (s draw) (r head) -> draw r s layer head", draw=1 + NULL_DRAWS, r=replicas)
        bands = draws[1:].nanquantile(0.99, dim=0).nan_to_num(1.0)
        return torch.stack([draws[0], bands], dim=1)

    def result(self, model: MTPTransformer, figures: Float[np.ndarray, "*figures"]) -> AttentionScores:
        """The array of scores and bands as named fields."""
        score, band = figures
        backs = slice(0, self.most_ahead)
        duplicate, aheads = self.most_ahead, slice(self.most_ahead + 1, None)
        return AttentionScores(
            layers=layer_names(model),
            rows_from=self.rows_from,
            back=score[backs],
            duplicate_token=score[duplicate],
            ahead=score[aheads],
            null_back=band[backs],
            null_duplicate_token=band[duplicate],
            null_ahead=band[aheads],
        )


def _sources(tokens: Tensor, ahead: int, queries: Tensor, real: Tensor) -> Tensor:
    """`[batch, pos]`: positions that an ideal k-ahead head attends to from any of the queries."""
    return (match_mask(tokens, ahead) & queries[..., None]).any(dim=1) & real


@dataclass(kw_only=True)
class _Targets:
    """The targets of a score: for each draw the (row, query, key) places that are summed, and the number of queries.

    A list of places, because a mask over all queries and keys would be almost empty. It is summed in pieces of PIECE places:
    `embedding_bag` on a GPU sums the pieces in parallel, but a single long bag one entry after another.
    """

    places: Int[Tensor, " target"]
    """Flat indices into (row, query, key); those of the first draw come first."""
    pieces: Int[Tensor, " piece"]
    """Index into `places` at which each piece begins; a piece belongs to one draw."""
    draws: Int[Tensor, " draw"]
    """Index of the first piece of each draw."""
    queries: Int[Tensor, " draw"]

    @classmethod
    def of(cls, row_M: Tensor, query_NM: Tensor, key_NM: Tensor, real_NM: Tensor, shape: torch.Size) -> "_Targets":
        """Keep the targets (`key` of `query` in `row`) that are real; `shape` is that of the tokens, (rows, length)."""
        rows, length = shape
        draw, target = real_NM.nonzero(as_tuple=True)
        query = row_M[target] * length + query_NM[draw, target]
        seen = torch.zeros(len(real_NM), rows * length, dtype=torch.bool)
        seen[draw, query] = True
        count_N = real_NM.sum(dim=1)
        pieces_N = (count_N + PIECE - 1) // PIECE
        first_N = pieces_N.cumsum(0) - pieces_N
        number_in_draw = torch.arange(int(pieces_N.sum())) - first_N.repeat_interleave(pieces_N)
        return cls(
            places=query * length + key_NM[draw, target],
            pieces=(count_N.cumsum(0) - count_N).repeat_interleave(pieces_N) + PIECE * number_in_draw,
            draws=first_N,
            queries=seen.sum(dim=1),
        )

    @classmethod
    def joined(cls, several: "Sequence[_Targets]") -> "_Targets":
        """Concatenate the draws of several scores, with piece and draw indices shifted accordingly."""
        places, pieces = (
            list(itertools.accumulate(map(len, parts), initial=0))
            for parts in ([each.places for each in several], [each.pieces for each in several])
        )
        return cls(
            places=torch.cat([each.places for each in several]),
            pieces=torch.cat([each.pieces + before for before, each in zip(places, several, strict=False)]),
            draws=torch.cat([each.draws + before for before, each in zip(pieces, several, strict=False)]),
            queries=torch.cat([each.queries for each in several]),
        )

    def to(self, device: torch.device) -> "_Targets":
        """Move all tensors to `device`, in place."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name).to(device))
        return self

    def mean(self, attention: Float[Tensor, "places heads"]) -> Float[Tensor, "draw heads"]:
        """Attention summed over each draw's places, divided by its number of queries; NaN where it has none."""
        of_pieces = F.embedding_bag(self.places, attention, self.pieces, mode="sum")
        every = torch.arange(len(of_pieces), device=of_pieces.device)
        return F.embedding_bag(every, of_pieces, self.draws, mode="sum") / self.queries[:, None]


def _back_targets(from_BT: Tensor, back: int, generator: torch.Generator) -> _Targets:
    """Targets at distance `back` before each query that has one; in the null draws a random position at or before the query."""
    row_M, query_M = from_BT[:, back:].nonzero(as_tuple=True)
    query_M = query_M + back
    random_NM = torch.rand(NULL_DRAWS, len(query_M), generator=generator) * (query_M + 1)
    key_NM = torch.cat([query_M[None] - back, random_NM.long()])
    return _Targets.of(
        row_M, query_M.expand_as(key_NM), key_NM, torch.ones_like(key_NM, dtype=torch.bool), from_BT.shape
    )


def _match_targets(
    tokens: Tensor, allowed_BT: Tensor, real_BT: Tensor, most_ahead: int, generator: torch.Generator
) -> list[_Targets]:
    """Targets of `match_mask` for 0, 1, .. ahead at the allowed queries; in the null draws with permuted positions.

    A permuted row has the same pairs of equal tokens at other positions, so only the pairs are moved and no mask is built per
    draw. Padding forms no pair and is not moved.
    """
    same_BTT = (tokens[:, :, None] == tokens[:, None, :]) & real_BT[:, :, None] & real_BT[:, None, :]
    row_M, one_M, other_M = same_BTT.tril(-1).nonzero(as_tuple=True)
    moved_NBT = _moved(real_BT, generator)
    one_NM, other_NM = moved_NBT[:, row_M, one_M], moved_NBT[:, row_M, other_M]
    query_NM, earlier_NM = torch.maximum(one_NM, other_NM), torch.minimum(one_NM, other_NM)
    is_allowed = allowed_BT[row_M, query_NM]
    return [
        _Targets.of(row_M, query_NM, earlier_NM + ahead, is_allowed & (earlier_NM + ahead <= query_NM), tokens.shape)
        for ahead in range(most_ahead + 1)
    ]


def _moved(real_BT: Tensor, generator: torch.Generator) -> Int[Tensor, "draw batch pos"]:
    """New index of each position in each draw; draw 0 is the identity. All rows without padding share one permutation."""
    rows, length = real_BT.shape
    drawn_NT = torch.rand(NULL_DRAWS, length, generator=generator)
    order_NBT = (drawn_NT[:, None] + 2.0 * ~real_BT).argsort(dim=2)  # + 2 sorts padding after all real positions
    number_BT = (real_BT.long().cumsum(dim=1) - 1).clamp(min=0)
    stay_BT = torch.arange(length).expand(rows, length)
    moved_NBT = order_NBT.gather(2, number_BT.expand(NULL_DRAWS, -1, -1)).where(real_BT, stay_BT)
    return torch.cat([stay_BT[None], moved_NBT])


def _on_repeats(task: Task, n_future: int) -> AttentionProbe:
    tokens = probe_tokens(task.d_vocab, task.n_ctx, probe_generator())
    return AttentionProbe(tokens, probe_generator(), most_ahead=max(MOST_AHEAD, n_future))


def _on_task(task: Task, n_future: int) -> AttentionProbe:
    batch = probe_batch(task)
    return AttentionProbe(
        batch.tokens,
        probe_generator(),
        queries=scored_queries(batch),
        real=batch.real,
        rows_from="task",
        most_ahead=max(MOST_AHEAD, n_future),
    )


PROBE = (
    Probe(
        name="attention",
        summary="Attention scores of every head (previous token, induction, k ahead, duplicate token) on random repeats.",
        result=AttentionScores,
        make=_on_repeats,
        figure=attention_figure,
        figure_along=attention_along_figure,
    ),
    Probe(
        name="task_attention",
        summary="Attention scores of every head on rows of the task, for queries before the tokens that it scores.",
        result=AttentionScores,
        make=_on_task,
        figure=attention_figure,
        figure_along=attention_along_figure,
    ),
)
