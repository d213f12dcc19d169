"""Trainings that fit into memory at once: in one process as replicas, or each in a process of its own."""

import math
from collections.abc import Iterator, Sequence

from playground.config import RunConfig
from playground.running.environment import pick_device
from playground.running.reporter import Reporter
from playground.training.memory import TooLarge, check_memory, free_memory, least_bytes, training_bytes
from tasks.registry import make_task

USABLE = 0.9
"""Share of the free memory that trainings may take."""


def fitting_processes(configs: Sequence[RunConfig], free: int | None = None) -> int:
    """Most trainings that fit into memory at once; at least one. `free` is the free memory in bytes, measured by default.

    The task of a configuration that is not resolved is not built, which may take seconds: its d_vocab counts where its
    configuration has a field of that name.
    """
    device = pick_device(configs[0].train.device)
    free = free_memory(device) if free is None else free
    largest = max(least_memory(config, half=device.type == "cuda") for config in configs)
    return max(1, int(USABLE * free) // max(1, largest))


def least_memory(config: RunConfig, *, half: bool) -> int:
    """Lower bound of the bytes that a training needs, from its configuration alone. `half`: activations take two bytes."""
    model = config.model
    if model.d_vocab is None or model.n_ctx is None:
        config = config.resolve(d_vocab=getattr(config.task, "d_vocab", 1), n_ctx=config.task.n_ctx)
    return sum(least_bytes(config, half=half))


def fitting_groups(configs: Sequence[RunConfig], reporter: Reporter, free: int | None = None) -> Iterator[range]:
    """Indices of the configurations, split into parts that fit into the device's memory.

    `free` is the free memory in bytes, measured by default. Raises TooLarge, with both numbers, when not even one fits.
    """
    device = pick_device(configs[0].train.device)
    task = make_task(configs[0].task)
    free = int(USABLE * (free_memory(device) if free is None else free))
    check_memory(configs[0], task, device, free=free)
    needed = training_bytes(configs[0], task, device)
    if needed > free:
        raise TooLarge(
            f"one training needs about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free on {device}; "
            "train with a smaller --batch-size, with --accumulate 2 or with --recompute"
        )
    n_groups = math.ceil(len(configs) / (free // needed))
    size = math.ceil(len(configs) / n_groups)
    if n_groups > 1:
        reporter.note(
            f"{len(configs)} trainings need about {len(configs) * needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: "
            f"they are trained {size} at a time"
        )
    for start in range(0, len(configs), size):
        yield range(start, min(start + size, len(configs)))
