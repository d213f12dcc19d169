"""One training on several processes: gradients, counts and decisions that they share (torch.distributed).

Every process holds the model (or, sharded, a part of it) and goes through its own rows of each step's batch. The n-token loss
is a mean over the targets of all rows, so the numbers of targets are added up first; each process then has its share of the
loss, and the sum of the shares' gradients is the gradient of the whole.

- `ddp`: DistributedDataParallel (Li et al. 2020, 2006.15704). Every process has the whole model and optimizer.
- `fsdp`: FSDP2, `fully_shard` (after Rajbhandari et al. 2020, 1910.02054, stage 3). Each has a part of every parameter and of
  its optimizer state; a layer is put together when it runs.

Tensors of the device go through NCCL on CUDA and gloo on the CPU. Decisions go through a gloo group of their own: they are
numbers in the CPU's memory, so nobody waits for a GPU, and a process that has ended is noticed there at once.
"""

import atexit
import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from playground.config import RunConfig
from playground.model.future_heads import SequentialHead
from playground.model.transformer import MTPTransformer
from playground.training.loss import Loss, Losses
from tasks.base import Batch

TIMEOUT = datetime.timedelta(minutes=30)
"""How long the others wait for the first process, which evaluates and probes alone."""
GIVE_UP = datetime.timedelta(seconds=5)
"""How long a process that failed waits for the others to hear of it."""
GO_ON, STOP, FAILED = 0, 1, 2
"""What processes agree on; the largest holds."""


class ProcessGone(RuntimeError):
    """Another process of this training has ended."""

    run: Path | None = None
    """Folder of the run, on the first process's machine."""


class ProcessFailed(ProcessGone):
    """Another process of this training has ended with an error, which it has told itself."""


class Crew:
    """The processes that train one model together, seen from one of them.

    `rank` 0 is the first, which keeps the run; `size` is how many there are.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
        self.started = False
        """Whether the first process has told the others what to train."""
        self.ended = False
        """Whether the others know that this process has come to its end."""

    def tell(self, message: Any = None) -> Any:
        """What the first process says, on all of them."""
        self.started = True
        said = [message]
        dist.broadcast_object_list(said, src=0, group=self.control, device=torch.device("cpu"))
        return said[0]

    def agree(self, code: int) -> int:
        """The largest of all processes' codes (GO_ON, STOP, FAILED)."""
        largest = torch.tensor(code)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.control)
        return int(largest)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on the first process; elsewhere nothing."""
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        dist.gather_object(value, values or None, dst=0, group=self.control)
        return values

    def give_up(self) -> None:
        """Say that this process has failed, to those who still listen."""
        with contextlib.suppress(RuntimeError):
            if not self.started and self.rank == 0:
                self.tell(None)
            elif self.started:
                work = dist.all_reduce(torch.tensor(FAILED), dist.ReduceOp.MAX, group=self.control, async_op=True)
                if work is not None:
                    work.wait(GIVE_UP)


_CREW: list[Crew] = []


def present_crew() -> Crew | None:
    """The processes that have been joined, if any."""
    return _CREW[0] if _CREW else None


@contextlib.contextmanager
def joined() -> Iterator[Crew]:
    """The processes that torchrun started, joined in here for one training (inside, it is the same crew).

    Each takes the GPU of its LOCAL_RANK, where there are GPUs. Raises ValueError when a machine has GPUs, and fewer than
    processes.
    """
    if _CREW:
        yield _CREW[0]
        return
    if not dist.is_initialized():
        dist.init_process_group(_backend(), timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    crew = Crew()
    _CREW.append(crew)
    try:
        yield crew
    except ProcessGone as error:
        crew.ended = True
        if not isinstance(error, ProcessFailed):
            atexit.unregister(dist.destroy_process_group)  # it would wait for the one that has gone
        raise
    finally:
        _CREW.clear()
        if not crew.ended:
            crew.give_up()


def _backend() -> str:
    backend = "gloo"
    if torch.cuda.is_available():
        processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if processes > gpus:
            raise ValueError(
                f"there are {processes} processes on this machine and {gpus} GPUs; "
                f"write --nproc-per-node {gpus}, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on the CPU"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    return backend


def several() -> bool:
    """Whether this process trains together with others."""
    return bool(_CREW)


@contextlib.contextmanager
def naming_the_lost(run: Path) -> Iterator[None]:
    """Errors that come from the end of another process are ProcessGone in here, and say of which run."""
    try:
        yield
    except ProcessGone as error:
        error.run = run
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        gone = ProcessGone("another process of this training ended")
        gone.run = run
        raise gone from error


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
