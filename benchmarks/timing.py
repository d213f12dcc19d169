"""Fair timing of several things: alternately, so that a change of load affects all of them; medians with quartiles."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

Work = Callable[[], Any]
Row = dict[str, Any]
"""A row of results; docs/reference/benchmarks.md explains its fields."""


def seconds(work: Work, device: str) -> float:
    """Wall-clock seconds of one call, including synchronisation with the device."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def in_turns(works: dict[str, Work], device: str, repeats: int, warmup: int = 3) -> dict[str, list[float]]:
    """Time all `works` alternately, `repeats` times each, after `warmup` calls of each; seconds by name."""
    for work in works.values():
        for _ in range(warmup):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return times


def kernel_seconds(work: Work, device: str, repeats: int, warmup: int = 3) -> list[float]:
    """Device seconds of each of `repeats` calls: on CUDA by events in one stream, without synchronisation between calls."""
    for _ in range(warmup):
        work()
    if device != "cuda":
        return [seconds(work, device) for _ in range(repeats)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(marks)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, interpolated between the values.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summary(values: Sequence[float], unit: str, name: str = "value") -> Row:
    """The fields of a row for a measurement: median, quartiles, unit and number of repeats."""
    low, middle, high = map(rounded, quartiles(values))
    return {
        name: middle,
        f"{name}_quartile_low": low,
        f"{name}_quartile_high": high,
        "unit": unit,
        "repeats": len(values),
    }


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios, repeat by repeat."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = map(rounded, quartiles(ratios))
    return {"ratio": middle, "ratio_quartile_low": low, "ratio_quartile_high": high}


def rounded(value: float) -> float:
    """The value rounded to four significant digits.

    >>> rounded(1234567.0), rounded(0.0123456)
    (1235000.0, 0.01235)
    """
    return float(f"{value:.4g}")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
