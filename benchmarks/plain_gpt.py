"""The baseline: a minimal GPT with the shape of our next-token model, without hooks, with fused attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playground.config import ModelConfig


class PlainBlock(nn.Module):
    """RMSNorm, rotary attention, gated MLP; rotation of half-split pairs, as in Llama."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.norm1 = nn.RMSNorm(config.d_model, eps=config.eps)
        self.norm2 = nn.RMSNorm(config.d_model, eps=config.eps)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.gate_up = nn.Linear(config.d_model, 2 * config.d_mlp, bias=False)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, self.n_heads, D // self.n_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(B, T, D))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + d_head / 2]), in the dtype of x."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class PlainGPT(nn.Module):
    """Embedding, blocks, norm, untied unembedding; `forward` returns the next-token loss."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.d_vocab is not None and config.n_ctx is not None
        self.embed = nn.Embedding(config.d_vocab, config.d_model)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=config.eps)
        self.unembed = nn.Linear(config.d_model, config.d_vocab, bias=False)
        frequency = config.rotary_base ** (-torch.arange(0, config.d_head, 2) / config.d_head)
        angle = torch.outer(torch.arange(config.n_ctx), frequency)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.get_buffer("cos"), self.get_buffer("sin"))
        logits = self.unembed(self.norm(x))
        targets = F.pad(tokens[:, 1:], (0, 1), value=-100)  # avoids copying the logits without the last position
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
