"""Hydra's draft heads: a gated MLP for each further offset, which reads the offset before and the token in between.

Head k adds out(SiLU(gate) * linear) to the output resid of head k - 1; gate and linear are computed from
[norm(resid); norm(embedding of x_{t+k-1})].
"""

import functools
from typing import TYPE_CHECKING

from playground.config import ModelConfig
from playground.config.future_heads import Sizes
from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_after_the_one_before

if TYPE_CHECKING:
    import torch


class TokenMlp(HeadModule):
    """Two norms and a gated MLP 2 d_model -> d_mlp -> d_model, without attention."""

    def __init__(self, reads_ahead: int) -> None:
        self.reads_ahead = reads_ahead

    def parameters(self, sizes: Sizes) -> int:
        return self.matrix_elements(sizes) + 2 * sizes.norm_parameters

    def matrix_elements(self, sizes: Sizes) -> int:
        return 5 * sizes.d_model * sizes.d_mlp

    def build(self, config: ModelConfig) -> "torch.nn.Module":
        return _module()(config)

    def start_on_base(self, module: "torch.nn.Module") -> None:
        """Zero, so that before the first step each offset predicts what offset 1 predicts."""
        module.get_parameter("out.weight").zero_()


class Hydra(FutureHeadType):
    """Head 1 is a layer that reads z; head k is a `TokenMlp` that reads head k - 1 and the token x_{t+k-1}."""

    name = "hydra"
    summary = "A layer for offset 1, and MLPs on the output of the offset before and the token in between."
    source = "after Ankner et al. 2024, 2402.05109, section 3, with this project's gated MLP"
    drafting = "mlps_in_turn"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_after_the_one_before(n_future)

    def module(self, index: int) -> HeadModule:
        return TokenMlp(reads_ahead=index) if index else LAYER


FUTURE_HEADS = Hydra()


@functools.cache
def _module():  # pyright infers the class
    """The module, defined when a model is built: configurations are read without torch."""
    import torch
    import torch.nn.functional as F
    from jaxtyping import Float
    from torch import Tensor, nn
    from transformer_lens.hook_points import HookPoint

    from playground.model.layers import Norm, Rotation

    class HydraHead(nn.Module):
        """resid + out(SiLU(gate) * linear), both from [norm(resid); norm(embedding of a later token)]."""

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
            self,
            resid: Float[Tensor, "*rest d_model"],
            rotation: Rotation | None,
            embedded: Float[Tensor, "*rest d_model"],
        ) -> Float[Tensor, "*rest d_model"]:
            resid = self.hook_resid_pre(resid)
            parts = (self.ln_resid(resid), self.ln_embed(self.hook_embed_in(embedded)))
            gate, linear = self.gate_in(torch.cat(parts, dim=-1)).chunk(2, dim=-1)
            return self.hook_resid_post(resid + self.hook_mlp_out(self.out(F.silu(gate) * linear)))

    return HydraHead
