"""Future heads that share their input, evaluated as ONE layer with a leading dimension of future heads.

Independent heads all read z, so their matrix products become one batched product. Drafting needs their output only at the last
accepted token: keys and values are computed for every committed token, everything else for that token alone.

Dimension letters: G future head, B row, D token to be committed, M d_mlp; the width of the stream is the last one.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from playground.generation.cache import View, mix, rotate_at
from playground.model.layers import Block, GatedMLP, Norm


class StackedNorms:
    """The norms of several layers, applied to one shared stream or to one stream per layer."""

    def __init__(self, norms: Sequence[Norm]) -> None:
        self.centred, self.eps = norms[0].centred, norms[0].eps
        self.weight = torch.stack([norm.weight for norm in norms])[:, None, None]
        self.bias = (
            torch.stack([norm.bias for norm in norms if norm.bias is not None])[:, None, None] if self.centred else None
        )

    def __call__(self, resid: Tensor) -> Tensor:
        """`[.., row, token, d_model]` -> `[head, row, token, d_model]`."""
        shape = resid.shape[-1:]
        if self.bias is not None:
            return F.layer_norm(resid, shape, None, None, self.eps) * self.weight + self.bias
        return F.rms_norm(resid, shape, None, self.eps) * self.weight


class StackedBlocks:
    """Layers of one shape that read one shared stream."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        first = blocks[0]
        self.n_heads, self.d_head = first.attn.n_heads, first.attn.d_head
        self.ln1 = StackedNorms([block.ln1 for block in blocks])
        qkv = torch.stack([block.attn.qkv.weight.T for block in blocks]).contiguous()
        self.q, self.kv = (part.contiguous() for part in qkv.split((qkv.shape[2] // 3, 2 * qkv.shape[2] // 3), dim=2))
        self.out = torch.stack([block.attn.out.weight.T for block in blocks]).contiguous()
        self.has_mlp = first.has_mlp
        if first.has_mlp:
            mlps = [block.mlp for block in blocks]
            self.gated = isinstance(mlps[0], GatedMLP)
            inner = [mlp.gate_in.weight if isinstance(mlp, GatedMLP) else mlp.linear_in.weight for mlp in mlps]
            self.ln2 = StackedNorms([block.ln2 for block in blocks])
            self.mlp_in = torch.stack([weight.T for weight in inner]).contiguous()
            self.mlp_out = torch.stack([mlp.out.weight.T for mlp in mlps]).contiguous()

    def last(
        self, z_BDD: Tensor, index: Tensor, write: View, read: View, cached: tuple[Tensor, Tensor], *, fresh: bool
    ) -> Tensor:
        """Output `[head, row, d_model]` of every layer at token `index[row]` of the committed tokens.

        `write` gives the slots of their keys and values, `read` the mask of the one token. `cached` are keys and values
        `[head, row, attention head, slot, d_head]`. `fresh`: the tokens are the first of their rows (the prefill) and attend
        only to each other.
        """
        batch = torch.arange(len(index), device=index.device)
        heads, rows = len(self.q), len(index)
        x_GBDD = self.ln1(z_BDD)
        kv = (x_GBDD.flatten(1, 2) @ self.kv).view(heads, rows, -1, 2, self.n_heads, self.d_head)
        q = (x_GBDD[:, batch, index] @ self.q).view(heads, rows, 1, self.n_heads, self.d_head)
        k, v = kv.unbind(dim=3)
        if write.rotation is not None and read.rotation is not None:
            k, q = rotate_at(k, write.rotation), rotate_at(q, read.rotation)
        for memory, new in zip(cached, (k, v), strict=True):
            memory[:, write.rows, :, write.slots] = new.permute(1, 2, 0, 3, 4)
        assert read.mask is not None
        seen = (k.transpose(2, 3), v.transpose(2, 3)) if fresh else (memory[:, :, :, : read.span] for memory in cached)
        seen_keys, seen_values = (part.flatten(0, 1) for part in seen)
        mask = read.mask.expand(heads, *read.mask.shape).flatten(0, 1)
        z = mix(q.transpose(2, 3).flatten(0, 1), seen_keys, seen_values, mask)
        resid = z_BDD[batch, index] + z.reshape(heads, rows, -1) @ self.out
        return self._with_mlp(resid)

    def _with_mlp(self, resid_GBD: Tensor) -> Tensor:
        if not self.has_mlp:
            return resid_GBD
        inner = self.ln2(resid_GBD[:, :, None])[:, :, 0] @ self.mlp_in
        if self.gated:
            gate, linear = inner.chunk(2, dim=-1)
            inner = F.silu(gate) * linear
        else:
            inner = F.gelu(inner)
        return resid_GBD + inner @ self.mlp_out
