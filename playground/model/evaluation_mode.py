"""Evaluation mode of a model for the length of a block."""

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """All modules of `model` are in evaluation mode inside this block; afterwards each has its previous mode back."""
    in_training = [module for module in model.modules() if module.training]
    _set_training(in_training, False)
    try:
        yield
    finally:
        _set_training(in_training, True)


def _set_training(modules: Iterable[nn.Module], mode: bool) -> None:
    """Set `module.training` directly: `module.train()` visits all parameters, which takes longer than a small model's run."""
    for module in modules:
        object.__setattr__(module, "training", mode)
