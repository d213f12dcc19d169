"""The weights of every attention head as they act on the residual stream, with the norm before a layer folded in.

A norm divides by the size of the stream and multiplies by learned weights. The size depends on the input and is left out here;
the learned weights are folded into the matrices that read the stream. LayerNorm also subtracts the mean, which is folded in
too; its bias, which adds a constant to every query, key, value or logit, is left out. Rotary positions rotate queries and keys
by an angle that depends on their distance: the weights here are those at distance 0.

Matrices multiply rows from the right: a residual stream x [d_model] gives the query x W_Q, and a head that attends to x writes
x W_V W_O.

Dimension letters: A attention head of any layer, D d_model, E d_head, V d_vocab.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.layers import Block, Norm
from playground.model.transformer import MTPTransformer
from playground.probes.quiet import all_offsets, layer_names
from playground.results import Head, heads_of


@dataclass(frozen=True, kw_only=True)
class AttentionWeights:
    """Folded weights of all heads, trunk first, or of the chosen heads in the given order."""

    heads: tuple[Head, ...]
    W_Q: Float[Tensor, "all_heads d_model d_head"]
    W_K: Float[Tensor, "all_heads d_model d_head"]
    W_V: Float[Tensor, "all_heads d_model d_head"]
    W_O: Float[Tensor, "all_heads d_head d_model"]

    def index(self, head: Head) -> int:
        """Index of a head in the stacked arrays. Raises ValueError for a head that is not in `heads`."""
        check_known(head, self.heads)
        return self.heads.index(head)

    @cached_property
    def n_trunk(self) -> int:
        """Number of heads in the trunk."""
        return sum(head.layer.startswith("blocks.") for head in self.heads)


@dataclass(frozen=True, kw_only=True)
class HeadWeights(AttentionWeights):
    """Folded attention weights with the embedding and the unembeddings."""

    W_E: Float[Tensor, "d_vocab d_model"]
    """Embedding. The norm is folded into the matrices that read it."""
    W_U: Float[Tensor, "d_model d_vocab"]
    """Unembedding of offset 1 (of all offsets unless it is replicated) with the final norm folded in."""
    more_W_U: tuple[Float[Tensor, "d_model d_vocab"], ...] = ()
    """Unembeddings of the offsets 2, 3, .. with the final norm folded in; empty if all offsets share `W_U`."""

    @property
    def W_Us(self) -> tuple[Float[Tensor, "d_model d_vocab"], ...]:
        """The shared unembedding alone, or the unembeddings of all offsets."""
        return (self.W_U, *self.more_W_U)

    def unembedding_of(self, head: Head) -> int:
        """Index into `W_Us` for an attention head: in a future head that of its own offset, in the trunk that of offset 1."""
        kind, _, number = head.layer.partition(".")
        return int(number) if kind == "future_heads" and self.more_W_U else 0


@torch.no_grad()
def attention_weights(model: MTPTransformer, heads: Sequence[Head] | None = None) -> AttentionWeights:
    """Copies of the folded weights of all heads, in double precision on the model's device.

    `heads` restricts them to these, in this order. Raises ValueError for a head that the model does not have.
    """
    known = known_heads(model)
    for head in heads or ():
        check_known(head, known)
    chosen = known if heads is None else tuple(heads)
    layers = {head.layer: block_of(model, head) for head in chosen or known}
    own = [list(layers).index(head.layer) * model.config.n_heads + head.index for head in chosen]

    def of_heads(weights: Iterable[Tensor]) -> Tensor:
        every = torch.cat([weight.detach().double() for weight in weights])
        return every if heads is None else every[own]

    reading = {
        name: of_heads(fold(block.ln1, getattr(block.attn, name)) for block in layers.values())
        for name in ("W_Q", "W_K", "W_V")
    }
    return AttentionWeights(heads=chosen, W_O=of_heads(block.attn.W_O for block in layers.values()), **reading)


@torch.no_grad()
def head_weights(model: MTPTransformer, heads: Sequence[Head] | None = None) -> HeadWeights:
    """`attention_weights` together with the embedding and the unembeddings."""
    own = attention_weights(model, heads)
    offsets = all_offsets(model) if model.more_unembeds else (1,)
    W_U, *more = (fold(model.ln_final, model.unembed_of(offset).weight.T) for offset in offsets)
    W_E = model.W_E.detach().to(torch.float64, copy=True)
    return HeadWeights(**vars(own), W_E=W_E, W_U=W_U, more_W_U=tuple(more))


def known_heads(model: MTPTransformer) -> tuple[Head, ...]:
    """All attention heads of the model, trunk first."""
    return heads_of(layer_names(model), model.config.n_heads)


def fold(norm: Norm, weight: Float[Tensor, "*rest d_model out"]) -> Float[Tensor, "*rest d_model out"]:
    """A matrix after a norm, as it acts on the stream before the norm, up to the norm's scale; a copy in double precision."""
    folded = weight.detach().double() * norm.weight.detach().double()[:, None]
    return folded - folded.mean(dim=-2, keepdim=True) if norm.centred else folded


def block_of(model: MTPTransformer, head: Head) -> Block:
    """The layer that a head is in."""
    kind, _, number = head.layer.partition(".")
    return getattr(model, kind)[int(number)]


def check_known(head: Head, heads: Sequence[Head]) -> None:
    """Raises ValueError if the head is not in `heads`, which are in the order of the layers."""
    if head not in heads:
        raise ValueError(f"there is no attention head {head}; write one of {heads[0]} to {heads[-1]}")


def check_path(model: MTPTransformer, path: Sequence[Head]) -> None:
    """Raises ValueError for a head that the model does not have, and for one that cannot read the output of its predecessor."""
    for head in path:
        check_known(head, known_heads(model))
    for first, second in zip(path, path[1:], strict=False):
        if second.comes_after(first, model.config.paths):
            continue
        if first.comes_after(second, model.config.paths):
            instead = f"write paths from the embedding upwards: {second}, then {first}"
        else:
            instead = f"both read the same stream; write one path with {first} and one with {second}"
        raise ValueError(f"{second} cannot read what {first} writes: {instead}")
