"""Initial weights: `ModelConfig.init` names the scheme. All are normal with mean zero; the table gives standard deviations.

| parameter                                          | fan_in_scaled               | normal   | normal_scaled               |
|----------------------------------------------------|-----------------------------|----------|-----------------------------|
| embedding, position embedding, unembedding         | 1 / sqrt(d_model)           | init_std | init_std                    |
| attention q, k, v; MLP in; sequential projection   | 1 / sqrt(inputs)            | init_std | init_std                    |
| attention out, MLP out; heads without attention    | 1 / sqrt(2 n_layers inputs) | init_std | init_std / sqrt(2 n_layers) |

Norm weights are one, biases zero. `fan_in_scaled` is LeCun et al. 1998 (Efficient BackProp, section 4.6), with outputs into
the residual stream scaled down so that its size does not grow with depth; `normal` is Radford et al. 2018 (GPT), and
`normal_scaled` Radford et al. 2019 (GPT-2, section 2.3), both with 0.02.

Models of one seed have equal initial values in all parameters that they share, for every n_future and control: the random
stream of a parameter depends on the seed and the parameter's name, and n_layers is the configured number in every control.
"""

import math

import torch
from torch import nn

from playground.config import ModelConfig
from tasks.base import seeded_generator, stream_seed


@torch.no_grad()
def init_weights(model: nn.Module, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw all weights. One number from `generator` (a CPU generator) seeds the random stream of every parameter."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        std = _std(config, inputs=parameter.shape[1], into_stream=name.endswith("out.weight"))
        own = seeded_generator(stream_seed(seed, name))
        parameter.copy_(torch.randn(parameter.shape, generator=own) * std)


def _std(config: ModelConfig, inputs: int, into_stream: bool) -> float:
    """Standard deviation of a matrix; `into_stream` is True if its outputs are added to the residual stream."""
    std = 1 / math.sqrt(inputs) if config.init == "fan_in_scaled" else config.init_std
    scaled = into_stream and config.init != "normal"
    return std / math.sqrt(2 * config.n_layers) if scaled else std
