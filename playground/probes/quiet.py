"""How every probe runs a model: evaluation mode, no gradients, its own hooks, and nothing of that left behind."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from playground.model.transformer import MTPTransformer

HookFunction = Callable[[Tensor, HookPoint], Tensor | None]
Hook = tuple[str | Callable[[str], bool], HookFunction]
"""A hook point's name (or which names), and what happens there: a returned tensor takes the activation's place."""


@contextlib.contextmanager
def quietly(model: MTPTransformer, hooks: list[Hook] | None = None, *, gradients: bool = False) -> Iterator[None]:
    """Run what is inside in evaluation mode with `hooks`; hooks of others stay, and modes and hooks are as before after it.

    May be nested: the hooks of all levels act, the outer ones first.
    """
    in_training = [module for module in model.modules() if module.training]
    _set_training(in_training, False)
    inner: list[Any] = list(hooks or [])
    try:
        with torch.set_grad_enabled(gradients), model.hooks(fwd_hooks=inner) if inner else contextlib.nullcontext():
            yield
    finally:
        _set_training(in_training, True)


def _set_training(modules: Sequence[nn.Module], mode: bool) -> None:
    """As `module.training = mode`, without its search for parameters, which takes longer than a small model's run on a GPU."""
    for module in modules:
        object.__setattr__(module, "training", mode)


def editing(change: Callable[[Tensor], Tensor]) -> HookFunction:
    """A hook that puts `change(activation)` in the activation's place."""
    return lambda activation, hook: change(activation)


def all_offsets(model: MTPTransformer) -> tuple[int, ...]:
    """1 .. n_future."""
    return tuple(range(1, model.n_future + 1))


def layer_names(model: MTPTransformer) -> tuple[str, ...]:
    """Hook names of all layers with attention, trunk first: `blocks.0`, .., `future_heads.0`, .."""
    return model.config.attention_layers


def matrix_names(model: MTPTransformer) -> tuple[str, ...]:
    """Hook names of the future heads that hold no attention, only a matrix."""
    every = (f"future_heads.{index}" for index in range(model.n_future))
    return tuple(name for name in every if name not in layer_names(model))
