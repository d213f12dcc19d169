"""Future heads that are not plain layers: matrices and MLPs without attention, and a layer that also reads a token.

The table of all types is in playground/config/future_heads.py.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from playground.config import ModelConfig
from playground.config.future_heads import is_layer
from playground.model.layers import Block, Norm, Rotation


class ResidualLinear(nn.Module):
    """resid + W norm(resid), without attention (Gloeckle et al. 2024, 2404.19737, appendix B, with a norm added)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hook_resid_pre = HookPoint()
        self.ln = Norm(config)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.hook_linear_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(
        self, resid: Float[Tensor, "batch pos d_model"], rotation: Rotation | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        resid = self.hook_resid_pre(resid)
        return self.hook_resid_post(resid + self.hook_linear_out(self.write(self.ln(resid))))

    def write(self, normalized: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """The update that is added to the residual stream."""
        return self.out(normalized)


class ResidualSiLU(ResidualLinear):
    """resid + SiLU(W norm(resid)): Medusa's residual block (Cai et al. 2024, 2401.10774, section 2.1), with a norm added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.hook_pre = HookPoint()

    def write(self, normalized: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        return F.silu(self.hook_pre(self.out(normalized)))


class SequentialHead(Block):
    """A layer that reads P [norm(resid); norm(embedding of a later token)] (DeepSeek-V3, 2412.19437, section 2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.hook_resid_in = HookPoint()
        self.hook_embed_in = HookPoint()
        self.ln_resid = Norm(config)
        self.ln_embed = Norm(config)
        self.project = nn.Linear(2 * config.d_model, config.d_model, bias=False)

    def join(
        self, resid: Float[Tensor, "batch pos d_model"], embedded: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """Input of the layer at every position: a projection of the previous residual stream and a later token's embedding."""
        parts = (self.ln_resid(self.hook_resid_in(resid)), self.ln_embed(self.hook_embed_in(embedded)))
        return self.project(torch.cat(parts, dim=-1)).to(resid.dtype)  # under autocast the product is in half precision


class HydraHead(nn.Module):
    """resid + out(SiLU(gate) * linear), both from [norm(resid); norm(embedding of a later token)]: no attention.

    Hydra's sequentially dependent draft heads (Ankner et al. 2024, 2402.05109, section 3), with this project's gated MLP.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hook_resid_pre = HookPoint()
        self.hook_embed_in = HookPoint()
        self.ln_resid = Norm(config)
        self.ln_embed = Norm(config)
        self.gate_in = nn.Linear(2 * config.d_model, 2 * config.d_mlp, bias=False)
        self.out = nn.Linear(config.d_mlp, config.d_model, bias=False)
        self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(
        self, resid: Float[Tensor, "*rest d_model"], embedded: Float[Tensor, "*rest d_model"]
    ) -> Float[Tensor, "*rest d_model"]:
        resid = self.hook_resid_pre(resid)
        parts = (self.ln_resid(resid), self.ln_embed(self.hook_embed_in(embedded)))
        gate, linear = self.gate_in(torch.cat(parts, dim=-1)).chunk(2, dim=-1)
        return self.hook_resid_post(resid + self.hook_mlp_out(self.out(F.silu(gate) * linear)))


def make_future_head(config: ModelConfig, index: int) -> Block | ResidualLinear | HydraHead:
    """The module of offset `index` + 1."""
    kind = config.future_heads
    if kind == "hydra" and index:
        return HydraHead(config)
    if kind == "sequential" and index:
        return SequentialHead(config)
    if is_layer(kind, index):
        return Block(config)
    return ResidualSiLU(config) if kind == "medusa_mlp" else ResidualLinear(config)
