"""The weights of every attention head as they act on the residual stream: the norm before a layer folded in.

A norm divides by the size of the stream, which depends on the input and is left out here, and multiplies by learned weights,
which is folded into what reads the stream. LayerNorm also takes the mean away, which is folded in, too; its bias, which adds
the same to every token, is left out. Rotary positions turn queries and keys by an angle that depends on their distance:
the weights here are those at distance 0.

Rows times matrices: a residual stream x [d_model] gives the query x W_Q, and a head writes x W_V W_O for what it attends to.

Dimension letters: A attention head of any layer, D d_model, E d_head, V d_vocab.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.layers import Block, Norm
from playground.model.transformer import MTPTransformer
from playground.probes.quiet import layer_names
from playground.results import Head, heads_of


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """Folded weights of all heads, trunk first."""

    heads: tuple[Head, ...]
    W_Q: Float[Tensor, "all_heads d_model d_head"]
    W_K: Float[Tensor, "all_heads d_model d_head"]
    W_V: Float[Tensor, "all_heads d_model d_head"]
    W_O: Float[Tensor, "all_heads d_head d_model"]
    W_E: Float[Tensor, "d_vocab d_model"]
    """Embedding, as the first layer reads it."""
    W_U: Float[Tensor, "d_model d_vocab"]
    """Unembedding with the final norm folded in."""

    def index(self, head: Head) -> int:
        """Place of a head in the stacked arrays. Raises ValueError for a head that the model does not have."""
        if head not in self.heads:
            raise ValueError(f"the model has no attention head {head}; its last one is {self.heads[-1]}")
        return self.heads.index(head)

    @cached_property
    def n_trunk(self) -> int:
        """How many of the heads are in the trunk."""
        return sum(head.layer.startswith("blocks.") for head in self.heads)


@torch.no_grad()
def head_weights(model: MTPTransformer) -> HeadWeights:
    """Gather and fold the weights; copies, in double precision on the model's device."""
    blocks: list[Block] = [*model.blocks, *model.future_heads]  # type: ignore[list-item]
    read = [[fold(block.ln1, getattr(block.attn, name)) for name in ("W_Q", "W_K", "W_V")] for block in blocks]
    W_Q, W_K, W_V = (torch.cat([layer[which] for layer in read]) for which in range(3))
    return HeadWeights(
        heads=heads_of(layer_names(model), model.config.n_heads), W_Q=W_Q, W_K=W_K, W_V=W_V,
        W_O=torch.cat([block.attn.W_O.double() for block in blocks]),
        W_E=model.W_E.double(), W_U=fold(model.ln_final, model.W_U),
    )  # fmt: skip


def fold(norm: Norm, weight: Float[Tensor, "*rest d_model out"]) -> Float[Tensor, "*rest d_model out"]:
    """What a matrix behind a norm does to the stream before it, up to the norm's scale."""
    folded = weight.double() * norm.weight.double()[:, None]
    return folded - folded.mean(dim=-2, keepdim=True) if norm.centred else folded
