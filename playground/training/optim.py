"""AdamW, linear warm-up and cosine decay, as in the paper's tables S13 and S14."""

import math

import torch
from torch import nn

from playground.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and none on norms and biases; parameters that require no gradient are left out.

    On CUDA the learning rate is a tensor, the same of all groups.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.ndim >= 2]
    vectors = [parameter for parameter in learning if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    on_cuda = learning[0].device.type == "cuda"  # there a step may be recorded as a graph: the rate is read from memory
    rate = torch.tensor(config.lr, device=learning[0].device) if on_cuda else config.lr
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True, capturable=on_cuda)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Learning rate of step 0, 1, .., steps - 1: up linearly, then down along a cosine to `min_lr_ratio` of the peak.

    >>> config = OptimConfig(lr=1.0, warmup_steps=2, min_lr_ratio=0.0)
    >>> [round(learning_rate(step, 6, config), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)
