"""AdamW, and a learning rate with linear warm-up and cosine decay.

Source: Gloeckle et al. 2024, "Better & Faster Large Language Models via Multi-token Prediction", arXiv 2404.19737,
tables S13 and S14.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from playground.config import OptimConfig
from playground.model.stack import Stack


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and none on norms and biases; parameters that require no gradient are left out.

    On CUDA the learning rate is a tensor, shared by all groups (see `set_learning_rate` in step.py).
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.ndim >= 2]
    vectors = [parameter for parameter in learning if parameter.ndim < 2]
    return _adamw(matrices, vectors, config)


def _adamw(matrices: list[nn.Parameter], vectors: list[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    device = (*matrices, *vectors)[0].device
    # A CUDA graph reads the rate from memory; a Python number would be fixed when the graph is recorded.
    on_cuda = device.type == "cuda"
    rate = torch.tensor(config.lr, device=device) if on_cuda else config.lr
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True, capturable=on_cuda)


def join_optimizers(
    stack: Stack, optimizers: Sequence[torch.optim.Optimizer], config: OptimConfig
) -> torch.optim.AdamW:
    """One AdamW with the settings `config` for all models of a stack, continuing from the states of their own `optimizers`.

    The states of `optimizers`, one for each model, become views of the joint state, so that a checkpoint of a single model
    stores its current moments. Before one of `optimizers` makes a step itself, it needs `own_counters`.
    """
    joint = _adamw([stack.matrices.values], [stack.vectors.values], config)
    for rows in (stack.matrices, stack.vectors):
        own = [[model.get_parameter(name) for name in rows.names] for model in stack.models]
        present = [
            [optimizer.state.get(one, {}) for one in mine] for optimizer, mine in zip(optimizers, own, strict=True)
        ]
        step = next((state["step"].clone() for states in present for state in states if state), None)
        device = rows.values.device
        kept = {"step": torch.zeros((), device=device) if step is None else step.to(device)}
        for name in ("exp_avg", "exp_avg_sq"):
            kept[name] = torch.zeros_like(rows.values, requires_grad=False)
            views = rows.views(kept[name])
            for replica, (optimizer, mine, states) in enumerate(zip(optimizers, own, present, strict=True)):
                for parameter, state, view in zip(mine, states, views, strict=True):
                    if state:
                        view[replica].copy_(state[name])
                    optimizer.state.setdefault(parameter, {}).update({name: view[replica], "step": kept["step"]})
        joint.state[rows.values] = kept
    return joint


def own_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter its own step counter (in place).

    After `join_optimizers` all parameters share one counter tensor; a step would increase it once for every parameter.
    """
    for state in optimizer.state.values():
        if "step" in state:
            state["step"] = state["step"].clone()


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Learning rate of step 0, 1, .., steps - 1: a linear rise to `lr`, then a cosine decay towards `min_lr_ratio` of it.

    >>> config = OptimConfig(lr=1.0, warmup_steps=2, min_lr_ratio=0.0)
    >>> [round(learning_rate(step, 6, config), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)
