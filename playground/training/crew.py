"""The processes that train one model together: who they are, what they tell one another, and how one's end is noticed.

What they decide goes through a gloo group of its own: numbers in the CPU's memory, so nobody waits for a GPU, and a process
that has ended is noticed there at once. Tensors of the device go through NCCL on CUDA and through gloo on the CPU.
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
