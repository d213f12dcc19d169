"""Training batches of a task. On a GPU several are drawn at once, as small operations take the same time for few rows."""

import torch
from torch import Tensor

from tasks.base import Batch, Device, Task

MOST_TOKENS = 2**22
"""Largest number of tokens drawn at once on a GPU, unless one batch has more."""
ROWS = 2**12
"""Rows drawn at once on a GPU: drawing fewer takes as long. Large batches are drawn LEAST_BATCHES at a time instead."""
LEAST_BATCHES = 32
"""Smallest number of batches drawn at once on a GPU, if they have at most MOST_TOKENS tokens."""


class Sampler:
    """The batches of one training, in order, `rows` rows each. All randomness comes from `generator`.

    On the CPU every call draws one batch. On CUDA a block of batches is drawn at once and returned one by one. The batches of a
    seed then depend on the size of the block, which follows from the task's context and `rows`.
    """

    def __init__(self, task: Task, rows: int, generator: torch.Generator, device: Device) -> None:
        self.task, self.rows, self.generator, self.device = task, rows, generator, torch.device(device)
        wanted = max(LEAST_BATCHES, ROWS // rows) if self.device.type == "cuda" else 1
        self.block = max(1, min(wanted, MOST_TOKENS // (rows * task.n_ctx)))
        self.used = self.block
        """Number of batches of the present block that have been returned."""
        self._before = generator.get_state()
        self._drawn: Batch

    def __call__(self) -> Batch:
        if self.used == self.block:
            self._draw()
        start = self.used * self.rows
        self.used += 1
        return self._drawn.rows(start, start + self.rows)

    def _draw(self) -> None:
        self._before = self.generator.get_state()
        self._drawn = self.task.sample(self.block * self.rows, self.generator, self.device)
        self.used = 0

    def counters(self) -> dict[str, Tensor]:
        """What a checkpoint must store to continue with the next batch: the generator's state and a number of used batches.

        Inside a block it is the state from before the block, so that `restore` can draw the block again.
        """
        if self.used == self.block:
            return {"generator": self.generator.get_state(), "used": torch.tensor(0)}
        return {"generator": self._before, "used": torch.tensor(self.used)}

    def restore(self, counters: dict[str, Tensor]) -> None:
        """Continue where `counters` were taken. Raises RuntimeError if they are from another kind of device."""
        self.generator.set_state(counters["generator"])
        used = int(counters.get("used", 0))
        self.used = self.block
        if used:  # the checkpoint is from inside a block: draw the block again, and skip its used batches
            self._draw()
            self.used = used
