"""The promise that every probe gives: the model is afterwards what it was before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from playground.model.transformer import MTPTransformer
from tests.cases import random_tokens


def _state(model: MTPTransformer) -> dict[str, Any]:
    tokens = random_tokens(rows=2, length=8, d_vocab=3)
    with torch.no_grad():
        logits = model(tokens.to(model.W_E.device), tuple(range(1, model.n_future + 1)))
    return {
        "logits": logits.tolist(),
        "modes": [module.training for module in model.modules()],
        "hooks": [len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_points()],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "graph": [p.grad_fn for p in model.parameters()],
    }


@contextmanager
def leaves_no_trace(model: MTPTransformer) -> Iterator[None]:
    """Compare logits, modes, hooks, gradients and what requires them before and after; gradients are made first.

    One parameter requires no gradient, one has none, and somebody else's hook hangs on the trunk's output.
    """
    parameters = list(model.parameters())
    for index, parameter in enumerate(parameters[1:]):
        parameter.grad = torch.full_like(parameter, float(index))
    parameters[-1].requires_grad_(False)
    model.hook_trunk.add_hook(lambda z, hook: z * 1.5)
    before, enabled = _state(model), torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled() is enabled
    after = _state(model)
    for name, value in before.items():
        assert after[name] == value, f"the probe changed {name}"
