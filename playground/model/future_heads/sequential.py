"""DeepSeek-V3's modules: a layer for each offset that reads the one before and the token in between.

Head k reads P [norm(resid); norm(embedding of x_{t+k-1})], where resid is the output of head k - 1.
"""

import functools
from typing import TYPE_CHECKING

from playground.config import ModelConfig
from playground.config.future_heads import Sizes
from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_after_the_one_before

if TYPE_CHECKING:
    import torch


class ProjectedLayer(HeadModule):
    """Two norms and a projection 2 d_model -> d_model, then a layer."""

    has_attention = True
    no_export = "it reads a token by a projection, for which TransformerLens has no block"

    def __init__(self, reads_ahead: int) -> None:
        self.reads_ahead = reads_ahead

    def parameters(self, sizes: Sizes) -> int:
        return sizes.layer_parameters + 2 * sizes.d_model**2 + 2 * sizes.norm_parameters

    def matrix_elements(self, sizes: Sizes) -> int:
        return sizes.layer_elements + 2 * sizes.d_model**2

    def build(self, config: ModelConfig) -> "torch.nn.Module":
        return _module()(config)


class Sequential(FutureHeadType):
    """Head 1 is a layer that reads z; head k is a `ProjectedLayer` that reads head k - 1 and the token x_{t+k-1}."""

    name = "sequential"
    summary = "One layer for each offset, on the output of the offset before and the token in between."
    source = "DeepSeek-V3, 2412.19437, section 2.2"
    drafting = "layers_over_window"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_after_the_one_before(n_future)

    def module(self, index: int) -> HeadModule:
        return ProjectedLayer(reads_ahead=index) if index else LAYER


FUTURE_HEADS = Sequential()


@functools.cache
def _module():  # pyright infers the class
    """The module, defined when a model is built: configurations are read without torch."""
    import torch
    from jaxtyping import Float
    from torch import Tensor, nn
    from transformer_lens.hook_points import HookPoint

    from playground.model.layers import Block, Norm, Rotation

    class SequentialHead(Block):
        """A layer that reads P [norm(resid); norm(embedding of a later token)]."""

        def __init__(self, config: ModelConfig) -> None:
            super().__init__(config)
            self.hook_resid_in = HookPoint()
            self.hook_embed_in = HookPoint()
            self.ln_resid = Norm(config)
            self.ln_embed = Norm(config)
            self.project = nn.Linear(2 * config.d_model, config.d_model, bias=False)

        def forward(  # type: ignore[override]  # it reads more than a layer of the trunk does
            self,
            resid: Float[Tensor, "batch pos d_model"],
            rotation: Rotation | None,
            embedded: Float[Tensor, "batch pos d_model"],
        ) -> Float[Tensor, "batch pos d_model"]:
            return super().forward(self.join(resid, embedded), rotation)

        def join(
            self, resid: Float[Tensor, "batch pos d_model"], embedded: Float[Tensor, "batch pos d_model"]
        ) -> Float[Tensor, "batch pos d_model"]:
            """Input of the layer at every position: a projection of the stream before and a later token's embedding."""
            parts = (self.ln_resid(self.hook_resid_in(resid)), self.ln_embed(self.hook_embed_in(embedded)))
            return self.project(torch.cat(parts, dim=-1)).to(
                resid.dtype
            )  # under autocast the product is in half precision

    return SequentialHead
