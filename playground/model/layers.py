"""The parts of a transformer layer, with TransformerLens's hook points and names.

Attention runs fused (`scaled_dot_product_attention`) unless a hook is attached to the pattern or the scores; then it is
computed step by step, with equal results. Norms also run fused unless a hook reads their scale or normalised output.

Dimension letters: B batch, T position (query), S key position, D d_model, H attention head, E d_head, M d_mlp.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from playground.config import ModelConfig

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each [pos, d_head]: each angle appears twice, and the first sine of each pair is negated (see `turn`)."""


def has_hooks(*points: HookPoint) -> bool:
    """True if any of the points has a forward or backward hook."""
    return any(point.fwd_hooks or point.bwd_hooks for point in points)


def matrix_product(x: Float[Tensor, "*rest d_in"], weight: Tensor) -> Float[Tensor, "*rest d_out"]:
    """x W^T for W `[d_out, d_in]`, or for several stacked models with W `[replica, d_out, d_in]`.

    In the stacked case the first dimension of x holds the rows of all replicas in order, equally many of each.
    """
    if weight.ndim == 2:
        return F.linear(x, weight)
    return _StackedProduct.apply(x.reshape(len(weight), -1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


class _StackedProduct(torch.autograd.Function):
    """x W^T of each replica.

    The weight gradient has the memory layout of the weight. The gradient by torch's own formula is transposed and copies x.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x_RNI: Tensor, weight_ROI: Tensor) -> Tensor:
        ctx.save_for_backward(x_RNI, weight_ROI)
        return x_RNI @ weight_ROI.transpose(1, 2)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x_RNI, weight_ROI = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        (slope_RNO,) = grads  # in half precision under autocast; so are the products
        for_x = slope_RNO @ weight_ROI.to(slope_RNO.dtype)
        for_weight = slope_RNO.transpose(1, 2) @ x_RNI.to(slope_RNO.dtype)
        return for_x.to(x_RNI.dtype), for_weight.to(weight_ROI.dtype)


class Norm(nn.Module):
    """RMSNorm (`RMS`) or LayerNorm (`LN`) with a learned weight, and for LayerNorm a learned bias."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.centred = config.normalization == "LN"
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.bias = nn.Parameter(torch.zeros(config.d_model)) if self.centred else None
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, resid: Float[Tensor, "*rest d_model"]) -> Float[Tensor, "*rest d_model"]:
        if has_hooks(self.hook_scale, self.hook_normalized):
            scaled = self._explicit(resid) * self.weight
            return scaled if self.bias is None else scaled + self.bias
        if self.centred:
            return F.layer_norm(resid, self.weight.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(resid, self.weight.shape, self.weight, self.eps)

    def _explicit(self, resid: Tensor) -> Tensor:
        if self.centred:
            resid = resid - resid.mean(dim=-1, keepdim=True)
        scale = self.hook_scale((resid.pow(2).mean(dim=-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(resid / scale)


class Rotary(nn.Module):
    """Rotary position embeddings (Su et al. 2021, 2104.09864) on adjacent pairs of dimensions."""

    def __init__(self, d_head: int, n_ctx: int, base: float) -> None:
        super().__init__()
        frequency = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angle = torch.outer(torch.arange(n_ctx, dtype=torch.float64), frequency).repeat_interleave(2, dim=1)
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(d_head // 2)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", (sign * angle.sin()).float(), persistent=False)

    def forward(self, length: int) -> Rotation:
        return self.get_buffer("cos")[:length], self.get_buffer("sin")[:length]


def rotate(x: Float[Tensor, "batch pos head d_head"], rotation: Rotation) -> Float[Tensor, "batch pos head d_head"]:
    """Turn each adjacent pair (x[2i], x[2i+1]) by its position's i-th angle."""
    cos, sin = (part[:, None, :].to(x.dtype) for part in rotation)
    return turn(x, cos, sin)


def turn(x: Float[Tensor, "*rest d_head"], cos: Tensor, sin: Tensor) -> Float[Tensor, "*rest d_head"]:
    """Map every adjacent pair (a, b) to (a cos - b sin, b cos + a sin); `sin` has its sign in it, see `Rotation`."""
    # flip swaps each pair, and its backward is another flip; separate tensors of a and b would have a slower backward.
    return x * cos + x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) * sin


class Attention(nn.Module):
    """Causal multi-head attention without biases. `W_Q`, `W_K`, `W_V`, `W_O` are the weights per attention head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.d_head = config.n_heads, config.d_head
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_rot_q = HookPoint()
        self.hook_rot_k = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], rotation: Rotation | None
    ) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, self.d_head)).unbind(dim=2)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if rotation is not None:
            q, k = self.hook_rot_q(rotate(q, rotation)), self.hook_rot_k(rotate(k, rotation))
        q_BHTE, k_BHSE, v_BHSE = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if has_hooks(self.hook_pattern, self.hook_attn_scores):
            z_BHTE = self._explicit(q_BHTE, k_BHSE, v_BHSE)
        else:
            z_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, is_causal=True)
        return self.out(self.hook_z(z_BHTE.transpose(1, 2)).flatten(2))

    def _explicit(self, q_BHTE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor) -> Tensor:
        length = q_BHTE.shape[2]
        scores_BHTS = q_BHTE @ k_BHSE.transpose(2, 3) / math.sqrt(self.d_head)
        future = torch.ones(length, length, dtype=torch.bool, device=q_BHTE.device).triu(1)
        scores_BHTS = self.hook_attn_scores(scores_BHTS.masked_fill(future, -torch.inf))
        return self.hook_pattern(scores_BHTS.softmax(dim=-1).to(v_BHSE.dtype)) @ v_BHSE

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        return self._per_head(0)

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        return self._per_head(1)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        return self._per_head(2)

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        return rearrange(self.out.weight, "d (h e) -> h e d", h=self.n_heads)

    def _per_head(self, which: int) -> Tensor:
        return rearrange(self.qkv.weight, "(qkv h e) d -> qkv h d e", qkv=3, h=self.n_heads)[which]


class GatedMLP(nn.Module):
    """SiLU-gated MLP (Shazeer 2020, 2002.05202) without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_in = nn.Linear(config.d_model, 2 * config.d_mlp, bias=False)
        self.out = nn.Linear(config.d_mlp, config.d_model, bias=False)
        self.hook_pre = HookPoint()
        self.hook_pre_linear = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        # Two products: after one joint product, backward would concatenate the gradients of its two halves, which costs more
        # than the second product.
        gate, linear = (matrix_product(x, half) for half in self.gate_in.weight.chunk(2, dim=-2))
        return self._write(gate, linear)

    def of_few(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Output of the MLP with gate and input in one product: for decoding, where kernel launches dominate the time."""
        return self._write(*self.gate_in(x).chunk(2, dim=-1))

    def _write(self, gate: Tensor, linear: Tensor) -> Tensor:
        return self.out(self.hook_post(F.silu(self.hook_pre(gate)) * self.hook_pre_linear(linear)))


class GeluMLP(nn.Module):
    """MLP of GPT-2's shape: hidden width 4 d_model, GELU, without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear_in = nn.Linear(config.d_model, config.d_mlp, bias=False)
        self.out = nn.Linear(config.d_mlp, config.d_model, bias=False)
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        return self.out(self.hook_post(F.gelu(self.hook_pre(self.linear_in(x)))))


class Block(nn.Module):
    """One pre-norm transformer layer: the trunk's layers, and every future head with attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hook_resid_pre = HookPoint()
        self.ln1 = Norm(config)
        self.attn = Attention(config)
        self.hook_attn_out = HookPoint()
        if config.mlp != "none":
            self.hook_resid_mid = HookPoint()
            self.ln2 = Norm(config)
            self.mlp = GatedMLP(config) if config.mlp == "gated" else GeluMLP(config)
            self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()
        self.has_mlp = config.mlp != "none"

    def forward(
        self, resid: Float[Tensor, "batch pos d_model"], rotation: Rotation | None
    ) -> Float[Tensor, "batch pos d_model"]:
        resid = self.hook_resid_pre(resid)
        resid = resid + self.hook_attn_out(self.attn(self.ln1(resid), rotation))
        if self.has_mlp:
            resid = self.hook_resid_mid(resid)
            resid = resid + self.hook_mlp_out(self.mlp(self.ln2(resid)))
        return self.hook_resid_post(resid)
