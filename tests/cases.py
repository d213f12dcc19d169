"""Cases and small objects that several suites share."""

import itertools
from typing import Any

import torch

from playground.config import ModelConfig, future_head_names
from playground.model.transformer import MTPTransformer
from tasks.base import Batch

MODEL_OPTIONS: list[dict[str, Any]] = [
    {"normalization": normalization, "positions": positions, "mlp": mlp}
    for normalization, positions, mlp in itertools.product(
        ["RMS", "LN"], ["rotary", "standard"], ["gated", "gelu", "none"]
    )
]
"""Every combination of the model's options."""

FUTURE_HEADS: tuple[str, ...] = tuple(future_head_names())
"""Every type of future heads."""
TYPE_OPTIONS: list[dict[str, Any]] = [
    {"future_heads": kind, "unembedding": unembedding}
    for kind, unembedding in itertools.product(FUTURE_HEADS, ["shared", "replicated"])
]
"""Every type of future heads with either unembedding."""


def small_config(**changes: Any) -> ModelConfig:
    """A model small enough for any test: 3 layers, 2 heads of width 8, 11 tokens, context 12."""
    values: dict[str, Any] = {"n_layers": 3, "n_heads": 2, "d_model": 16, "d_vocab": 11, "n_ctx": 12}
    return ModelConfig(**(values | changes))


def small_model(seed: int = 0, **changes: Any) -> MTPTransformer:
    """A model of `small_config`, with weights from `seed`."""
    return MTPTransformer(small_config(**changes), torch.Generator().manual_seed(seed))


def random_tokens(rows: int = 3, length: int = 12, d_vocab: int = 11, seed: int = 0) -> torch.Tensor:
    """Uniform random tokens `[rows, length]`."""
    return torch.randint(d_vocab, (rows, length), generator=torch.Generator().manual_seed(seed))


def make_batch(tokens: torch.Tensor, **parts: torch.Tensor) -> Batch:
    """A batch in which everything is one document, a target and scored, unless `parts` says otherwise."""
    everything = torch.ones_like(tokens, dtype=torch.bool)
    values = {"loss_mask": everything, "score_mask": everything, "documents": torch.zeros_like(tokens)} | parts
    return Batch(tokens=tokens, **values)
