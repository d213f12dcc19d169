"""Clamped attention patterns: forced or forbidden regardless of the weights, during training and afterwards.

A finished model hardly shows what a behaviour depends on; a training in which a pattern is forbidden from step 0 on does.
For the row 7 2 7 (queries down, keys across; f forbidden, 1 forced):

    forbid previous token    forbid induction    force previous token    force induction
    .                        .                   1                       1
    f .                      . .                 1 0                     1 0
    . f .                    . f .               0 1 0                   0 1 0

A forced head attends only to its targets, with equal weights, and to the first token where a query has no target. A query
whose keys are all forbidden attends to itself. The clamp is part of the model's computation: it consists of permanent hooks,
which `reset_hooks()` keeps.

Induction patterns depend on the tokens: the masks belong to the rows that last went through the embedding. To run later
layers on residual streams of other rows, first pass those rows through `model.embed`. Rows of one token do not need it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookFunction

from playground.config import ClampConfig, select_heads
from playground.model.patterns import match_mask, previous_token_mask
from playground.model.transformer import MTPTransformer

MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "previous_token": previous_token_mask,
    "induction": lambda tokens: match_mask(tokens, 1),
}


class _InputTokens:
    """The model's current input tokens, and their pattern masks, computed once for all layers."""

    def __init__(self, model: MTPTransformer) -> None:
        self._masks: dict[str, Tensor] = {}
        self.tokens = torch.zeros(0, 0, dtype=torch.long)
        model.embed.register_forward_pre_hook(self._keep)

    def _keep(self, _module: nn.Module, inputs: tuple[Int[Tensor, "batch pos"], ...]) -> None:
        self.tokens = inputs[0]
        self._masks.clear()

    def mask(self, pattern: str, like: Tensor) -> Tensor:
        """Mask `[batch or 1, 1, pos, pos]` for the scores or patterns `like`.

        Raises ValueError when `like` does not have the shape of the rows that last went through the embedding.
        """
        rows, _, length, _ = like.shape
        if pattern == "previous_token" or length == 1:
            return MASKS[pattern](torch.zeros(1, length, dtype=torch.long, device=like.device)).unsqueeze(1)
        if self.tokens.shape != (rows, length):
            raise ValueError(
                f"a clamped layer ran on {rows} rows of {length} tokens, but the rows that last went through the embedding "
                f"have the shape {tuple(self.tokens.shape)}; pass the layer's rows through model.embed first"
            )
        if pattern not in self._masks:
            self._masks[pattern] = MASKS[pattern](self.tokens).unsqueeze(1)
        return self._masks[pattern]


def apply_clamp(model: MTPTransformer, clamp: ClampConfig) -> MTPTransformer:
    """Add permanent hooks to `model` that hold the patterns of `clamp`; returns `model`. Heads are frozen by the optimizer."""
    if not clamp.changes_patterns:
        return model
    rows = _InputTokens(model)
    points = dict(model.hook_dict)
    for pattern in MASKS:
        for layer, heads in select_heads(getattr(clamp, f"forbid_{pattern}"), model.config).items():
            points[f"{layer}.attn.hook_attn_scores"].add_perma_hook(_forbid(rows, pattern, heads))
        for layer, heads in select_heads(getattr(clamp, f"force_{pattern}"), model.config).items():
            points[f"{layer}.attn.hook_pattern"].add_perma_hook(_force(rows, pattern, heads))
    return model


def _forbid(rows: _InputTokens, pattern: str, heads: list[int]) -> HookFunction:
    def forbid(scores_BHTS: Tensor) -> Tensor:
        scores_BHTS = scores_BHTS.clone()  # earlier hooks may hold this tensor: no edit in place
        for some in _in_a_row(heads):
            left = scores_BHTS[:, some].masked_fill(rows.mask(pattern, scores_BHTS), -torch.inf)
            # A row of -inf only would make softmax return NaN, so such a query keeps its own key.
            nothing_left = left.isneginf().all(dim=-1, keepdim=True)
            itself = torch.eye(left.shape[-1], dtype=torch.bool, device=left.device)
            scores_BHTS[:, some] = left.masked_fill(nothing_left & itself, 0.0)
        return scores_BHTS

    return lambda tensor, hook: forbid(tensor)


def _force(rows: _InputTokens, pattern: str, heads: list[int]) -> HookFunction:
    def force(pattern_BHTS: Tensor) -> Tensor:
        target = rows.mask(pattern, pattern_BHTS).to(pattern_BHTS.dtype)
        target[..., 0] += (target.sum(dim=-1) == 0).to(target.dtype)
        target = target / target.sum(dim=-1, keepdim=True)
        pattern_BHTS = pattern_BHTS.clone()  # softmax saved it for backward: an edit in place would raise an error
        for some in _in_a_row(heads):
            pattern_BHTS[:, some] = target
        return pattern_BHTS

    return lambda tensor, hook: force(tensor)


def _in_a_row(heads: list[int]) -> list[slice]:
    """Sorted heads as slices of consecutive heads.

    Indexing with a list would copy the indices to the device, which is not allowed while a CUDA graph is captured.

    >>> _in_a_row([0, 1, 3])
    [slice(0, 2, None), slice(3, 4, None)]
    """
    first = [head for head in heads if head - 1 not in heads]
    last = [head for head in heads if head + 1 not in heads]
    return [slice(begin, end + 1) for begin, end in zip(first, last, strict=True)]


def frozen_slices(model: MTPTransformer, clamp: ClampConfig) -> list[tuple[nn.Parameter, Tensor]]:
    """Parameters that contain frozen heads, each with a boolean mask of its shape, True at the frozen entries.

    Frozen are the query, key, value and output weights of a head.
    """
    found: list[tuple[nn.Parameter, Tensor]] = []
    n_heads, d_head = model.config.n_heads, model.config.d_head
    for layer, heads in select_heads(clamp.freeze_heads, model.config).items():
        attention = model.get_submodule(f"{layer}.attn")
        qkv, out = attention.get_parameter("qkv.weight"), attention.get_parameter("out.weight")
        frozen_H = torch.zeros(n_heads, dtype=torch.bool, device=qkv.device)
        frozen_H[heads] = True
        per_row = frozen_H.repeat_interleave(d_head)
        found.append((qkv, per_row.repeat(3)[:, None].expand_as(qkv)))
        found.append((out, per_row[None].expand_as(out)))
    return found
