"""Runs a model for a probe: evaluation mode, no gradients, the probe's own hooks; the previous state is restored afterwards."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from playground.model.evaluation_mode import evaluation_mode
from playground.model.transformer import MTPTransformer

HookFunction = Callable[[Tensor, HookPoint], Tensor | None]
Hook = tuple[str | Callable[[str], bool], HookFunction]
"""A hook point's name (or a test of names), and the hook: a tensor that it returns replaces the activation."""


@contextlib.contextmanager
def quietly(model: MTPTransformer, hooks: list[Hook] | None = None, *, gradients: bool = False) -> Iterator[None]:
    """Run the `with` block in evaluation mode with `hooks`; other hooks stay active, and modes and hooks are restored after it.

    May be nested: the hooks of all levels act, the outer ones first.
    """
    inner: list[Any] = list(hooks or [])
    acting = model.hooks(fwd_hooks=inner) if inner else contextlib.nullcontext()
    with evaluation_mode(model), torch.set_grad_enabled(gradients), acting:
        yield


def editing(change: Callable[[Tensor], Tensor]) -> HookFunction:
    """A hook that replaces the activation by `change(activation)`."""
    return lambda activation, hook: change(activation)


def all_offsets(model: MTPTransformer) -> tuple[int, ...]:
    """All offsets, 1 .. n_future."""
    return tuple(range(1, model.n_future + 1))


def layer_names(model: MTPTransformer) -> tuple[str, ...]:
    """Hook names of all layers with attention, trunk first: `blocks.0`, .., `future_heads.0`, .."""
    return model.config.attention_layers


def matrix_names(model: MTPTransformer) -> tuple[str, ...]:
    """Hook names of the future heads that have a matrix in place of attention."""
    every = (f"future_heads.{index}" for index in range(model.n_future))
    return tuple(name for name in every if name not in layer_names(model))
