"""The process group of one training: ranks, agreement between processes, and how the end of one is noticed.

Decisions go through a gloo group of their own. Its numbers lie in the CPU's memory, so that no process waits for a GPU, and a
process that has ended is noticed there at once. Tensors of the device go through NCCL on CUDA and through gloo on the CPU.
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

TIMEOUT = datetime.timedelta(minutes=30)
"""How long the other processes wait for rank 0, which evaluates and probes alone."""
GIVE_UP = datetime.timedelta(seconds=5)
"""How long a process that failed waits for the others to receive its code."""
GO_ON, STOP, FAILED = 0, 1, 2
"""Codes that processes agree on: the largest of all counts."""


class ProcessGone(RuntimeError):
    """Another process of this training has ended."""

    run: Path | None = None
    """Folder of the run, on the first process's machine."""


class ProcessFailed(ProcessGone):
    """Another process of this training has ended with an error and has sent the code FAILED."""


class ProcessGroup:
    """The processes that train one model, as one of them sees the group.

    Rank 0 stores the run; `size` is the number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
        self.started = False
        """Whether rank 0 has sent the configuration to the others."""
        self.ended = False
        """Whether the others have been told that this process ends."""

    def broadcast(self, message: Any = None) -> Any:
        """The message of rank 0, on every process."""
        self.started = True
        messages = [message]
        dist.broadcast_object_list(messages, src=0, group=self.control, device=torch.device("cpu"))
        return messages[0]

    def agree(self, code: int) -> int:
        """The largest of all processes' codes (GO_ON, STOP, FAILED)."""
        largest = torch.tensor(code)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.control)
        return int(largest)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes by rank, on rank 0; an empty list on the others."""
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        dist.gather_object(value, values or None, dst=0, group=self.control)
        return values

    def give_up(self) -> None:
        """Send the code FAILED to the processes that still take part in an agreement."""
        with contextlib.suppress(RuntimeError):
            if not self.started and self.rank == 0:
                self.broadcast(None)
            elif self.started:
                work = dist.all_reduce(torch.tensor(FAILED), dist.ReduceOp.MAX, group=self.control, async_op=True)
                if work is not None:
                    work.wait(GIVE_UP)


_CURRENT: list[ProcessGroup] = []


def current_process_group() -> ProcessGroup | None:
    """The process group that this process has joined, if any."""
    return _CURRENT[0] if _CURRENT else None


@contextlib.contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, for one training. A nested call yields the group of the outer one.

    Each process takes the GPU of its LOCAL_RANK, where there are GPUs. Raises ValueError when a machine has GPUs, but fewer
    of them than processes.
    """
    if _CURRENT:
        yield _CURRENT[0]
        return
    if not dist.is_initialized():
        dist.init_process_group(_backend(), timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    group = ProcessGroup()
    _CURRENT.append(group)
    try:
        yield group
    except ProcessGone as error:
        group.ended = True
        if not isinstance(error, ProcessFailed):
            atexit.unregister(dist.destroy_process_group)  # destroying the group waits for the process that has ended
        raise
    finally:
        _CURRENT.clear()
        if not group.ended:
            group.give_up()


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


@contextlib.contextmanager
def naming_lost_run(run: Path) -> Iterator[None]:
    """Turn errors that come from the end of another process into ProcessGone with the folder of this run."""
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
