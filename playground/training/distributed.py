"""Training one model on several processes (process_group.py): exchange of gradients, target counts and weights.

Each rank holds the model, or with sharding a part of it, and processes its own rows of each step's batch. A loss is
a mean, such as over the targets of all rows, so its denominators are summed over the ranks first. Each rank then computes its
share of the loss, and the sum of the shares' gradients is the gradient of the loss.

- `ddp`: DistributedDataParallel (Li et al. 2020, 2006.15704). Each rank has the whole model and optimizer.
- `fsdp`: FSDP2, `fully_shard` (after Rajbhandari et al. 2020, 1910.02054, stage 3). Each rank has a part of every parameter
  and of its optimizer state; the parameters of a layer are gathered when the layer runs.

The collective operations here must be called by all ranks in the same order. Otherwise the ranks wait for each other until the
timeout of the process group.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.training.objectives.base import Loss, Losses
from tasks.base import Batch


class _LossModule(nn.Module):
    """A module whose forward pass returns the loss, because DDP and FSDP act on calls of a module and on their gradients."""

    def __init__(self, model: MTPTransformer, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, counts: Tensor) -> Losses:
        return self.loss(self.model, batch, counts)


class SharedLoss:
    """Loss of a model that several processes train. Its backward pass gives each rank the whole gradient, or its part.

    With `fsdp` the constructor replaces the parameters of `model`, and those in `optimizer`, by this rank's parts (DTensor).
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
        """This rank's share of the loss, from its rows of the batch and the denominators `[replica, loss]` of all ranks."""
        # DDP and FSDP average gradients over the ranks; the shares have to be added, hence the factor `size`.
        losses: Losses = self.module(batch, counts)
        return Losses(losses.total * self.size, losses.each)

    @contextlib.contextmanager
    def reducing(self, reduce: bool) -> Iterator[None]:
        """Inside this block backward passes exchange gradients between the ranks if `reduce`, else accumulate them locally.

        With gradient accumulation only the last part of a step exchanges them.
        """
        if isinstance(self.module, DistributedDataParallel):
            with contextlib.nullcontext() if reduce else self.module.no_sync():
                yield
        else:
            self.module.set_requires_gradient_sync(reduce)  # pyright: ignore[reportCallIssue]
            yield


def add_up(numbers: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place; returns it. A collective operation."""
    dist.all_reduce(numbers)
    return numbers


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, on every rank. A sharded one (DTensor) is gathered, which is a collective operation."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def copy_from_first(model: nn.Module, optimizer_state: dict[str, dict[str, Tensor]]) -> None:
    """Copy the parameters and optimizer states of rank 0 to all ranks, in place. A collective operation.

    Names, order and shapes must be equal on all ranks: each tensor is one broadcast, matched by its place in the order.
    """
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
    """Gather sharded weights and optimizer states; ranks with a `target` (model, optimizer) store them there.

    A collective operation: ranks with `target=None` must call it as well, because each gather needs the parts of all ranks. One
    parameter at a time is gathered, so that ranks without a target never hold the whole model.
    """
    kept = dict(target[0].named_parameters()) if target else {}
    for name, parameter in model.named_parameters():
        value = whole(parameter)
        # Sorted: each gather is matched with that of the other ranks by its place in the order.
        states = {key: whole(state) for key, state in sorted(optimizer.state.get(parameter, {}).items())}
        if target:
            kept[name].copy_(value)
            if states:
                target[1].state[kept[name]] = states


def _shard(plain: _LossModule, optimizer: torch.optim.Optimizer) -> None:
    """Keep only this rank's part of every parameter and optimizer state. FSDP gathers a layer's parameters when it runs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    model = plain.model
    # `fully_shard` replaces the parameter objects, by which the optimizer refers to groups and states: names link old and new.
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    states = {name: optimizer.state.pop(parameter, {}) for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(model.W_E.device.type, (dist.get_world_size(),))
    for layer in (*model.blocks, *model.future_heads):
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
