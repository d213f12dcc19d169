"""Estimate of the time of a training and the cost of its seeds, in words: from earlier runs, or from the preset's figure."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playground.config import Control
from playground.running.cores import cores
from playground.runs.record import RunRecord
from playground.ui.shared.words import duration, plural

START_UP = 6.0
"""Seconds until a training process has imported its libraries."""
SIDE_BY_SIDE = 1.9
"""A training on one core next to others takes this much longer than one on two cores, evaluations included."""
COST_OF_SIXTEEN = ((256, 2.40), (1024, 3.25), (4096, 5.80), (32_768, 14.3))
"""(tokens in a step of one model, time of a step of sixteen over that of one) on a GPU, where replicas share a process.

Measured with a 1M model on an H200 (docs/log.md, 2026-11-28). The fewer tokens per step, the less of the GPU one model uses.
"""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated seconds, and their source."""

    seconds: float
    models: int
    parallel: int
    """Processes at a time."""
    measured: bool
    seeds: int = 1
    cost: float = 1.0
    """Time of all seeds over that of one, without the start of processes."""
    shared: bool = False
    """Whether the seeds of one n train in one process."""

    def text(self) -> str:
        """One sentence on the time; if there are several seeds, a second one on their cost."""
        source = "from earlier runs here" if self.measured else "a guess until a first run has been measured here"
        time = f"{plural(self.models, 'model')}{self._side()}: about **{duration(self.seconds)}** ({source})."
        if self.seeds < 2:
            return time
        return f"{time} {plural(self.seeds, 'seed')}: about **{times(self.cost)}** the time of one on this device."

    def _side(self) -> str:
        if self.models == 1:
            return ""
        if self.shared and self.seeds > 1:
            return ", the seeds of each n in one process"
        return f", {self.parallel} at a time" if self.parallel < self.models else ", side by side"


def times(ratio: float) -> str:
    """A factor with two digits: `1x`, `2.5x`, `16x`."""
    return f"{ratio:.2g}x" if ratio < 99.5 else f"{ratio:.0f}x"


def replica_cost(n_replicas: int, device: str, tokens: float = math.inf) -> float:
    """Time of `n_replicas` models of one shape on this machine over the time of one, with `tokens` in a step of one.

    On a GPU (`cuda`) they share a process: interpolates COST_OF_SIXTEEN, linearly in the logarithm of the tokens and in the
    replicas. On the CPU (`cpu`) each is a process on one core, as many at a time as there are cores. Raises ValueError for
    fewer than one replica and for any other device.

    >>> replica_cost(16, "cuda", tokens=4096), round(replica_cost(4, "cuda", tokens=4096), 2), replica_cost(16, "cuda")
    (5.8, 1.96, 14.3)
    """
    if n_replicas < 1:
        raise ValueError(f"n_replicas is {n_replicas}; write 1 or more")
    if device == "cpu":
        return float(math.ceil(n_replicas / cores()))
    if device != "cuda":
        raise ValueError(f"device is {device!r}; write 'cpu' or 'cuda'")
    measured, costs = zip(*COST_OF_SIXTEEN, strict=True)
    sixteen = float(np.interp(np.log(max(tokens, 1)), np.log(measured), costs))
    return 1 + (sixteen - 1) * (n_replicas - 1) / 15


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trainings to run: every combination of n and seed, `parallel` processes at a time."""

    preset: str
    n_futures: tuple[int, ...]
    seeds: tuple[int, ...]
    control: Control
    steps: int
    objective: str = "n_token"
    parallel: int
    tokens: int
    """Tokens in a step of one model."""
    stored: frozenset[tuple[int, int]] = frozenset()
    """(n, seed) that finished runs have already trained; they are left out."""

    @property
    def left(self) -> list[tuple[int, int]]:
        """(n, seed) of the remaining trainings, in the order in which they start."""
        return [(n, seed) for seed in self.seeds for n in self.n_futures if (n, seed) not in self.stored]


def estimate(
    plan: Plan, records: Sequence[RunRecord], *, seconds_per_step: float, n_layers: int, device: str = "cpu"
) -> Estimate:
    """Estimate the time of a plan at the pace of similar finished runs, else at the preset's pace for n = 1.

    On the CPU each model is a process of its own; on a GPU (`cuda`) the seeds of one n share one.
    """
    each: list[float] = []
    measured = True
    left = plan.left
    for n_future in dict.fromkeys(n for n, _ in left):
        n_future = (
            1 if plan.control == "flops" else n_future
        )  # under flops its fewer steps cost as much as those of n = 1
        rate = _measured(records, plan.preset, n_future, plan.control)
        if rate is None:
            measured = False
            deeper = (n_layers + n_future - 1) / n_layers if plan.control != "layers" else 1.0
            rate = seconds_per_step * deeper * (SIDE_BY_SIDE if plan.parallel > 1 and device == "cpu" else 1.0)
        each.append(rate * plan.steps)
    seeds, models = len({seed for _, seed in left}), len(left)
    shared = device == "cuda"
    seconds, one = (_makespan(_processes(each, count, shared, plan.tokens), plan.parallel) for count in (seeds, 1))
    return Estimate(
        seconds=START_UP + seconds,
        models=models,
        parallel=max(1, min(plan.parallel, models)),
        seeds=seeds,
        measured=measured and bool(each),
        cost=seconds / one if one else 1.0,
        shared=shared,
    )


def _processes(each: Sequence[float], seeds: int, shared: bool, tokens: int) -> list[float]:
    """Seconds of every process in starting order: one per seed, or, if `shared`, one per n with all its seeds."""
    if shared:
        return [seconds * replica_cost(seeds, "cuda", tokens) for seconds in each] if seeds else []
    return list(each) * seeds


def _makespan(seconds: Sequence[float], parallel: int) -> float:
    """Time until the last process ends, if each starts as soon as one of `parallel` slots is free."""
    free = [0.0] * max(1, parallel)
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _measured(records: Sequence[RunRecord], preset: str, n_future: int, control: str) -> float | None:
    """Wall-clock seconds per step of one model, evaluations included, of the newest finished run of this kind.

    The time of a run that shared its process is divided by the joint cost of the replicas.
    """
    for record in reversed(records):
        same = (record.preset, record.n_future) == (preset, n_future) and (n_future == 1 or record.control == control)
        if same and record.status == "finished" and record.step and record.finished:
            whole = record.finished - record.created
            seconds = whole if record.seconds < whole < 3 * record.seconds else record.seconds
            return seconds / record.step / _cost_of_process(record)
    return None


def _cost_of_process(record: RunRecord) -> float:
    """Time of the run's process over that of one model. On the CPU replicas share the cores and save nothing."""
    if record.device.startswith("cpu"):
        return float(record.replicas)
    return replica_cost(record.replicas, "cuda", record.tokens / max(record.step, 1))
