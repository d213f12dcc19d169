"""One training on several processes (process_group.py): the gradients, counts and weights that they share.

Every process holds the model (or, sharded, a part of it) and goes through its own rows of each step's batch. The n-token loss
is a mean over the targets of all rows, so the numbers of targets are added up first; each process then has its share of the
loss, and the sum of the shares' gradients is the gradient of the whole.

- `ddp`: DistributedDataParallel (Li et al. 2020, 2006.15704). Every process has the whole model and optimizer.
- `fsdp`: FSDP2, `fully_shard` (after Rajbhandari et al. 2020, 1910.02054, stage 3). Each has a part of every parameter and of
  its optimizer state; a layer is put together when it runs.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from playground.config import RunConfig
from playground.model.future_heads import SequentialHead
from playground.model.transformer import MTPTransformer
from playground.training.loss import Loss, Losses
from tasks.base import Batch


class _LossModule(nn.Module):
    """A model whose forward is its loss, which is what torch's wrappers want."""

    def __init__(self, model: MTPTransformer, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, counts: Tensor) -> Losses:
        return self.loss(self.model, batch, counts)


class SharedLoss:
    """The loss of a model that several processes train; its backward pass gives each of them the whole gradient (or its part).

    With `fsdp` the parameters of `model` are parts from now on, and those that `optimizer` holds become them.
    """

    def __init__(self, model: MTPTransformer, loss: Loss, optimizer: torch.optim.Optimizer, config: RunConfig) -> None:
        self.size = dist.get_world_size()
        plain = _LossModule(model, loss)
        self.sharded = config.train.parallel == "fsdp"
        if self.sharded:
            _shard(plain, optimizer)
            self.module: nn.Module = plain
        else:
            self.module = DistributedDataParallel(plain, gradient_as_bucket_view=True)
            self.module.broadcast_buffers = False  # the tables of rotary positions never change

    def __call__(self, batch: Batch, counts: Tensor | None) -> Losses:
        """This process's share, from its rows and the counts of all. `total` is scaled for gradients that are averaged."""
        losses: Losses = self.module(batch, counts)
        return Losses(losses.total * self.size, losses.each)

    @contextlib.contextmanager
    def reducing(self, reduce: bool) -> Iterator[None]:
        """Whether backward passes in here exchange gradients, or only add them up: a step exchanges once, in its last part."""
        if isinstance(self.module, DistributedDataParallel):
            with contextlib.nullcontext() if reduce else self.module.no_sync():
                yield
        else:
            self.module.set_requires_gradient_sync(reduce)  # pyright: ignore[reportCallIssue]
            yield


def add_up(numbers: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    dist.all_reduce(numbers)
    return numbers


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process may have a part."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def copy_from_first(model: nn.Module, optimizer_state: dict[str, dict[str, Tensor]]) -> None:
    """Give the parameters and optimizer states of all processes the values of the first. Shapes are equal everywhere."""
    for parameter in model.parameters():
        dist.broadcast(parameter.detach(), src=0)
    for state in optimizer_state.values():
        for key in sorted(state):
            dist.broadcast(state[key], src=0)


@torch.no_grad()
def put_together(
    model: MTPTransformer,
    optimizer: torch.optim.Optimizer,
    target: tuple[MTPTransformer, torch.optim.Optimizer] | None,
) -> None:
    """Gather sharded weights and optimizer states, on all processes together; those with a `target` keep them there."""
    kept = dict(target[0].named_parameters()) if target else {}
    for name, parameter in model.named_parameters():
        value = whole(parameter)
        states = {key: whole(state) for key, state in sorted(optimizer.state.get(parameter, {}).items())}
        if target:
            kept[name].copy_(value)
            if states:
                target[1].state[kept[name]] = states


def _shard(plain: _LossModule, optimizer: torch.optim.Optimizer) -> None:
    """Leave each process its part of every parameter and optimizer state. A layer is put together when it runs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    model = plain.model
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    states = {name: optimizer.state.pop(parameter, {}) for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(model.W_E.device.type, (dist.get_world_size(),))
    for layer in (*model.blocks, *model.future_heads):
        if not isinstance(layer, SequentialHead):  # something of it runs before its forward
            fully_shard(layer, mesh=mesh)
    fully_shard(plain, mesh=mesh)
    parts = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [parts[names[id(parameter)]] for parameter in group["params"]]
    for name, state in states.items():
        part: Any = parts[name]
        if state:
            optimizer.state[part] = {
                key: distribute_tensor(value, mesh, part.placements) if value.shape == part.shape else value
                for key, value in state.items()
            }
