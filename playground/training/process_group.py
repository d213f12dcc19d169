"""The process group of one training: ranks, agreement between processes, and detection of a process that has ended.

Decisions use a separate process group with the gloo backend. Its tensors are in CPU memory, so a decision does not wait for a
GPU, and gloo detects at once that a process has ended. Tensors on the device use NCCL on CUDA and gloo on the CPU.

All methods that communicate are collective operations: all ranks must call them in the same order.
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
"""Longest wait of the other processes for rank 0, which evaluates and probes alone."""
GIVE_UP = datetime.timedelta(seconds=5)
"""Longest wait of a process that failed until the others have received its code."""
GO_ON, STOP, FAILED = 0, 1, 2
"""Codes that processes agree on: the largest code of all ranks is the result."""


class ProcessGone(RuntimeError):
    """Another process of this training has ended."""

    run: Path | None = None
    """Folder of the run, on the machine of rank 0."""


class ProcessFailed(ProcessGone):
    """Another process of this training has ended with an error and has sent the code FAILED."""


class ProcessGroup:
    """The processes that train one model: rank of this process, their number `size`, and their decisions.

    Rank 0 stores the run.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
        self.started = False
        """True after the first broadcast, in which rank 0 sends the configuration."""
        self.ended = False
        """True if the other ranks know that this process ends, so that `give_up` is not needed."""

    def broadcast(self, message: Any = None) -> Any:
        """The message of rank 0, on every rank; the argument of other ranks is ignored."""
        self.started = True
        messages = [message]
        dist.broadcast_object_list(messages, src=0, group=self.control, device=torch.device("cpu"))
        return messages[0]

    def agree(self, code: int) -> int:
        """The largest of all ranks' codes (GO_ON, STOP, FAILED)."""
        largest = torch.tensor(code)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.control)
        return int(largest)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in the order of the ranks, on rank 0; an empty list on the others."""
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        dist.gather_object(value, values or None, dst=0, group=self.control)
        return values

    def give_up(self) -> None:
        """Send the code FAILED to the ranks that wait in `agree`, or None to those that wait for the first broadcast.

        Waits at most GIVE_UP for an agreement: the other ranks may have ended as well. Errors of the connection are ignored.
        """
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
    """Join the process group of the processes that torchrun started, for one training. A nested call yields the outer group.

    Each process uses the GPU with the number LOCAL_RANK if the machine has GPUs. Raises ValueError if it has fewer GPUs than
    processes. If the block ends without `ended` being set, the code FAILED is sent to the other ranks.
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
    """Backends of the default process group; selects this process's GPU."""
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
    """Inside this block, errors caused by the end of another process become ProcessGone, with the folder of this run."""
    try:
        yield
    except ProcessGone as error:
        error.run = run
        raise
    except RuntimeError as error:
        # gloo reports a lost connection as a plain RuntimeError, which only its text identifies.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        gone = ProcessGone("another process of this training ended")
        gone.run = run
        raise gone from error
