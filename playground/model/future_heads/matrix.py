"""A future head that is one matrix, with or without a SiLU: resid + W norm(resid), or resid + SiLU(W norm(resid)).

The types `linear`, `medusa_linear` and `medusa_mlp` consist of it.
"""

import functools
from typing import TYPE_CHECKING

from playground.config import ModelConfig
from playground.config.future_heads import Sizes
from playground.model.future_heads.base import HeadModule

if TYPE_CHECKING:
    import torch


class Matrix(HeadModule):
    """A norm and a matrix d_model x d_model, without attention; `silu`: a SiLU after the matrix."""

    def __init__(self, *, silu: bool = False) -> None:
        self.silu = silu

    def parameters(self, sizes: Sizes) -> int:
        return sizes.d_model**2 + sizes.norm_parameters

    def matrix_elements(self, sizes: Sizes) -> int:
        return sizes.d_model**2

    def build(self, config: ModelConfig) -> "torch.nn.Module":
        linear, silu = _modules()
        return silu(config) if self.silu else linear(config)

    def start_on_base(self, module: "torch.nn.Module") -> None:
        """Zero, so that before the first step each offset predicts what offset 1 predicts (Medusa, section 2.1)."""
        module.get_parameter("out.weight").zero_()


@functools.cache
def _modules():  # pyright infers the two classes
    """The modules without and with the SiLU, defined when a model is built: configurations are read without torch."""
    import torch.nn.functional as F
    from jaxtyping import Float
    from torch import Tensor, nn
    from transformer_lens.hook_points import HookPoint

    from playground.model.layers import Norm, Rotation

    class ResidualLinear(nn.Module):
        """resid + W norm(resid)."""

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
        """resid + SiLU(W norm(resid))."""

        def __init__(self, config: ModelConfig) -> None:
            super().__init__(config)
            self.hook_pre = HookPoint()

        def write(self, normalized: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
            return F.silu(self.hook_pre(self.out(normalized)))

    return ResidualLinear, ResidualSiLU
