"""Training batches of a task. On a GPU several are drawn at once: sampling is many small operations, however few the rows."""

import torch
from torch import Tensor

from tasks.base import Batch, Device, Task

MOST_TOKENS = 2**22
"""Tokens drawn at once on a GPU, at most."""
ROWS = 2**12
"""Rows drawn at once on a GPU, but no fewer than LEAST_BATCHES have. Drawing few rows takes as long as drawing these."""
LEAST_BATCHES = 32


class Sampler:
    """The batches of one training, in order. All randomness is the generator's.

    On the CPU a batch is drawn when it is asked for. On CUDA a block of batches is, and handed out one by one: the batches of a
    seed depend on the size of the block, which the task's context and the number of rows decide.
    """

    def __init__(self, task: Task, rows: int, generator: torch.Generator, device: Device) -> None:
        self.task, self.rows, self.generator, self.device = task, rows, generator, torch.device(device)
        wanted = max(LEAST_BATCHES, ROWS // rows) if self.device.type == "cuda" else 1
        self.block = max(1, min(wanted, MOST_TOKENS // (rows * task.n_ctx)))
        self.used = self.block
        """How many of the present block have been handed out."""
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
        """What a checkpoint must hold to go on with the next batch."""
        if self.used == self.block:
            return {"generator": self.generator.get_state(), "used": torch.tensor(0)}
        return {"generator": self._before, "used": torch.tensor(self.used)}

    def restore(self, counters: dict[str, Tensor]) -> None:
        """Go on where `counters` were taken. Raises RuntimeError for those of another kind of device."""
        self.generator.set_state(counters["generator"])
        used = int(counters.get("used", 0))
        self.used = self.block
        if used:
            self._draw()
            self.used = used
