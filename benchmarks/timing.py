"""Timing several things fairly: in turns, so that a busy moment hits all of them, and by medians."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def seconds(work: Callable[[], Any], device: str) -> float:
    """Wall-clock seconds of one call, with the device waited for."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def in_turns(works: dict[str, Callable[[], Any]], device: str, repeats: int, warmup: int = 3) -> dict[str, list[float]]:
    """Time each of `works` `repeats` times, one after another in turns, after `warmup` calls of each."""
    for work in works.values():
        for _ in range(warmup):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return times


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """Median of the ratios turn by turn, and its quartiles."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(middle, 3), "ratio_quartile_low": round(low, 3), "ratio_quartile_high": round(high, 3)}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
