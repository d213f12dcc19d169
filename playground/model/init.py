"""Initial weights, in one table.

| parameter                         | values                                          |
|-----------------------------------|-------------------------------------------------|
| embedding, position embedding     | normal, standard deviation 1 / sqrt(d_model)    |
| attention q, k, v; MLP in         | normal, 1 / sqrt(inputs)                        |
| attention out, MLP out            | normal, 1 / sqrt(2 * inputs * next_token_depth) |
| future heads without attention    | the same                                        |
| sequential projection             | normal, 1 / sqrt(inputs)                        |
| unembedding                       | normal, 1 / sqrt(d_model)                       |
| normalisation weight / bias       | one / zero                                      |

The outputs into the residual stream are scaled down by the sublayers on the next-token path, two a layer (Radford et al. 2019),
so that its size does not grow with depth.
"""

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def init_weights(model: nn.Module, next_token_depth: int, generator: torch.Generator) -> None:
    """Draw all weights anew from `generator` (a CPU generator), in the order of `named_parameters`."""
    sublayers = 2 * next_token_depth
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        inputs = parameter.shape[1]
        residual = name.endswith("out.weight")
        _normal(parameter, 1 / math.sqrt(inputs * (sublayers if residual else 1)), generator)


def _normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
