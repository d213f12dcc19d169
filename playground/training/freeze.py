"""Frozen attention heads: their gradient is masked, and weight decay is undone after each optimizer step."""

from collections.abc import Callable

import torch
from torch import Tensor

from playground.config import ClampConfig
from playground.model.clamp import frozen_slices
from playground.model.transformer import MTPTransformer


def freeze_heads(model: MTPTransformer, optimizer: torch.optim.Optimizer, clamp: ClampConfig) -> None:
    """Keep the heads in `clamp.freeze_heads` at their present weights through all steps of `optimizer`.

    Call it while the model has its initial weights, or weights of the same training: the present values are copied.
    """
    held = [
        (parameter, mask, parameter.detach().clone())
        for parameter, mask in frozen_slices(model, clamp)
        if parameter.requires_grad
    ]
    # A head is a part of a parameter, so `requires_grad` cannot freeze it. A masked gradient also adds nothing to the norm for
    # clipping. Weight decay still changes the weights, hence `restore`.
    for parameter, mask, _ in held:
        parameter.register_hook(_without(mask))

    def restore(*_: object) -> None:
        with torch.no_grad():
            for parameter, mask, values in held:
                parameter.copy_(torch.where(mask, values, parameter))

    if held:
        optimizer.register_step_post_hook(restore)


def _without(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Gradient hook that sets the entries in `mask` to zero."""
    return lambda gradient: gradient.masked_fill(mask, 0.0)
