"""The memory that trainings need on this machine, in words. From the configurations alone: no task or model is built."""

from collections.abc import Sequence

from playground.config import RunConfig

GIB = 2**30


def memory_text(configs: Sequence[RunConfig], device: str) -> str:
    """One sentence: the least memory of one of these trainings, and what is free on `device` (`cpu` or `cuda`)."""
    needed, free = _needed_and_free(configs, device)
    least = f"at least **{needed / GIB:.1f} GiB**" if needed >= 0.05 * GIB else "less than **0.1 GiB**"
    return f"Memory: {least} a model, and {free / GIB:.1f} GiB are free."


def too_large(configs: Sequence[RunConfig], device: str) -> str:
    """What to change if one of these trainings cannot fit into the free memory of `device`; empty if all fit."""
    if not configs:
        return ""
    needed, free = _needed_and_free(configs, device)
    if needed <= free:
        return ""
    return (
        f"one training needs at least {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on {device}; choose a smaller "
        "model or batch_size"
    )


def _needed_and_free(configs: Sequence[RunConfig], device: str) -> tuple[int, int]:
    """Bytes of the largest training, and the free bytes."""
    import torch

    from playground.running.fitting import least_memory
    from playground.training.memory import free_memory

    return max(least_memory(config, half=device == "cuda") for config in configs), free_memory(torch.device(device))
