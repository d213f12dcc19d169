"""The KV cache: keys and values of earlier tokens, and attention that reads them.

Memory is fixed: `capacity` slots per row, layer and head. A row's committed tokens are in its first slots, in order. A forward
also writes the slots after them; these are either committed afterwards or overwritten by the next forward. Nothing is cleared.

Dimension letters: B row, T token of this forward, S slot, H attention head, E d_head, L layer, D token to be committed.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from playground.model.layers import Attention, Block, GatedMLP, Rotation, turn

FILLS_GPU = 256
"""Number of programs (one for each row and attention head) that fully uses a GPU."""


class KVCache:
    """Keys and values `[layer, row, head, slot, d_head]`."""

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def n_bytes(self) -> int:
        """Bytes of keys and values together."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def move(self, rows: Tensor, source_BD: Tensor, target_BD: Tensor) -> None:
        """Copy the slots `source` to `target` within each row, in all layers; all arguments are integer tensors."""
        # Indexing on the right makes a copy first, so overlapping source and target slots are safe.
        self.keys[:, rows, :, target_BD] = self.keys[:, rows, :, source_BD]
        self.values[:, rows, :, target_BD] = self.values[:, rows, :, source_BD]


class View(NamedTuple):
    """Places of the tokens of one forward in the KV cache, and their attention mask."""

    rows: Tensor
    """`[row, 1]`: rows of the cache."""
    slots: Tensor
    """`[row, token]`: slots that store the tokens' keys and values."""
    rotation: Rotation | None
    """Cosines and sines `[row, token, 1, d_head]` of the tokens' positions; None without rotary positions."""
    mask: Tensor | None
    """`[row, 1, token, slot]`: added to the attention scores, 0 for visible slots and -inf for the others. None: the tokens are
    the first of their rows, with causal attention among themselves (the prefill)."""
    span: int
    """Number of slots that attention reads: the first ones of each row."""


def rotate_at(x: Tensor, rotation: Rotation) -> Tensor:
    """`model.layers.rotate` for rows at different positions: `x` and the result are `[row, token, head, d_head]`."""
    return turn(x, *rotation)


def cached_attention(attention: Attention, x_BTD: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """Output `[row, token, d_model]` of an attention layer for new tokens; adds their keys and values to the cache."""
    qkv = attention.qkv(x_BTD).unflatten(-1, (3, attention.n_heads, attention.d_head))
    q, k, v = qkv.unbind(dim=2)
    if view.rotation is not None:
        turned = rotate_at(qkv[:, :, :2].flatten(2, 3), view.rotation)
        q, k = turned[:, :, : attention.n_heads], turned[:, :, attention.n_heads :]
    z_BHTE = attend(q, k, v, view, keys_BHSE, values_BHSE)
    return attention.out(z_BHTE.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """Store `k` and `v` in the cache, then attend: inputs `[row, token, head, d_head]`, result `[row, head, token, d_head]`."""
    # Stored before attention reads the cache: a new token also attends to itself and to new tokens before it.
    keys_BHSE[view.rows, :, view.slots] = k
    values_BHSE[view.rows, :, view.slots] = v
    if view.mask is None:
        return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
    return mix(q.transpose(1, 2), keys_BHSE[:, :, : view.span], values_BHSE[:, :, : view.span], view.mask)


def mix(q_BHTE: Tensor, keys_BHSE: Tensor, values_BHSE: Tensor, mask: Tensor) -> Tensor:
    """Attention of few queries to many keys. On a GPU a split-key kernel runs it, unless one query per row suffices to fill it.

    Queries and result are `[row, head, token, d_head]`, keys and values `[row, head, slot, d_head]`.
    """
    rows, heads, queries, width = q_BHTE.shape
    small = queries > 1 or rows * heads < FILLS_GPU
    if q_BHTE.device.type == "cuda" and small and width >= 16 and width & (width - 1) == 0:
        from playground.generation.decode_attention import split_attention  # needs triton

        return split_attention(q_BHTE, keys_BHSE, values_BHSE, mask)
    return F.scaled_dot_product_attention(q_BHTE, keys_BHSE, values_BHSE, attn_mask=mask)


def cached_block(block: Block, resid_BTD: Tensor, view: View, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
    """Output `[row, token, d_model]` of a layer for new tokens, given the tokens in the cache; adds them to the cache."""
    resid_BTD = resid_BTD + cached_attention(block.attn, block.ln1(resid_BTD), view, keys_BHSE, values_BHSE)
    if not block.has_mlp:
        return resid_BTD
    mlp = block.mlp.of_few if isinstance(block.mlp, GatedMLP) else block.mlp
    return resid_BTD + mlp(block.ln2(resid_BTD))
