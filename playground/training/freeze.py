"""Heads that keep their initial weights: no gradient reaches them, and weight decay is undone."""

from collections.abc import Callable

import torch
from torch import Tensor

from playground.config import ClampConfig
from playground.model.clamp import frozen_slices
from playground.model.transformer import MTPTransformer


def freeze_heads(model: MTPTransformer, optimizer: torch.optim.Optimizer, clamp: ClampConfig) -> None:
    """Hold the clamp's frozen heads at their present weights through every step of `optimizer`."""
    held = [
        (parameter, mask, parameter.detach().clone())
        for parameter, mask in frozen_slices(model, clamp)
        if parameter.requires_grad
    ]
    for parameter, mask, _ in held:
        parameter.register_hook(_without(mask))

    def restore(*_: object) -> None:
        with torch.no_grad():
            for parameter, mask, values in held:
                parameter.copy_(torch.where(mask, values, parameter))

    if held:
        optimizer.register_step_post_hook(restore)


def _without(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(mask, 0.0)
