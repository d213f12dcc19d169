"""Keys and values of earlier tokens, and attention that reads them.

Memory is fixed: `capacity` slots per row, layer and head. A row's committed tokens lie in its first slots, in order; what a
forward writes behind them is either committed afterwards or overwritten by the next forward: nothing is ever cleared.

Dimension letters: B row, T token of this forward, S slot, H attention head, E d_head, L layer, D token to be committed.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from playground.model.layers import Attention, Block, GatedMLP, Rotation, turn

FILLS_GPU = 256
"""Programs, one for each row and attention head, that keep a GPU busy."""


class KVCache:
    """Keys and values `[layer, row, head, slot, d_head]`."""

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def n_bytes(self) -> int:
        """Memory of keys and values together."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def move(self, rows: Tensor, source_BD: Tensor, target_BD: Tensor) -> None:
        """Copy slots within each row, in all layers."""
        self.keys[:, rows, :, target_BD] = self.keys[:, rows, :, source_BD]
        self.values[:, rows, :, target_BD] = self.values[:, rows, :, source_BD]


class View(NamedTuple):
    """Where the tokens of one forward stand, and what they see."""

    rows: Tensor
    """`[row, 1]`: rows of the cache."""
    slots: Tensor
    """`[row, token]`: where their keys and values go."""
    rotation: Rotation | None
    """Cosines and sines `[row, token, 1, d_head]` of their positions."""
    mask: Tensor | None
    """`[row, 1, token, slot]`: added to attention scores, 0 for what each sees of the first `span` slots and -inf for the rest.
    None: the tokens are the first of their rows, and each sees those before it in this forward (the prefill)."""
    span: int


def rotate_at(x: Tensor, rotation: Rotation) -> Tensor:
    """`model.layers.rotate` for rows at different positions: `x` is `[row, token, head, d_head]`."""
    return turn(x, *rotation)


def cached_attention(attention: Attention, x_BTD: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """What an attention layer writes for new tokens, given those in the cache, which their keys and values join."""
    qkv = attention.qkv(x_BTD).unflatten(-1, (3, attention.n_heads, attention.d_head))
    q, k, v = qkv.unbind(dim=2)
    if view.rotation is not None:
        turned = rotate_at(qkv[:, :, :2].flatten(2, 3), view.rotation)
        q, k = turned[:, :, : attention.n_heads], turned[:, :, attention.n_heads :]
    z_BHTE = attend(q, k, v, view, keys_BHSE, values_BHSE)
    return attention.out(z_BHTE.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """Store k and v, and mix the values that each query sees; all `[row, token, head, d_head]`, the result head first."""
    keys_BHSE[view.rows, :, view.slots] = k
    values_BHSE[view.rows, :, view.slots] = v
    if view.mask is None:
        return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
    return mix(q.transpose(1, 2), keys_BHSE[:, :, : view.span], values_BHSE[:, :, : view.span], view.mask)


def mix(q_BHTE: Tensor, keys_BHSE: Tensor, values_BHSE: Tensor, mask: Tensor) -> Tensor:
    """Attention of few queries to many keys: on a GPU by a kernel made for that, unless single queries fill it anyway."""
    rows, heads, queries, width = q_BHTE.shape
    small = queries > 1 or rows * heads < FILLS_GPU
    if q_BHTE.device.type == "cuda" and small and width >= 16 and width & (width - 1) == 0:
        from playground.generation.decode_attention import split_attention  # needs triton

        return split_attention(q_BHTE, keys_BHSE, values_BHSE, mask)
    return F.scaled_dot_product_attention(q_BHTE, keys_BHSE, values_BHSE, attn_mask=mask)


def cached_block(block: Block, resid_BTD: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """A layer on new tokens, given those in the cache."""
    resid_BTD = resid_BTD + cached_attention(block.attn, block.ln1(resid_BTD), view, keys_BHSE, values_BHSE)
    if not block.has_mlp:
        return resid_BTD
    mlp = block.mlp.of_few if isinstance(block.mlp, GatedMLP) else block.mlp
    return resid_BTD + mlp(block.ln2(resid_BTD))
