"""How long a training will take, in plain language: from earlier runs of the same kind, or from the preset's figure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from playground.config import Control
from playground.runs.record import RunRecord
from playground.ui.words import duration, plural

START_UP = 6.0
"""Seconds until a training process has loaded its libraries."""
SIDE_BY_SIDE = 2.4
"""A training on one core beside others takes this much longer than one on two cores, evaluations included."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds, and where the figure comes from."""

    seconds: float
    models: int
    parallel: int
    measured: bool

    def text(self) -> str:
        """One sentence."""
        side = (
            ""
            if self.models == 1
            else f", {self.parallel} at a time"
            if self.parallel < self.models
            else ", side by side"
        )
        source = "from earlier runs here" if self.measured else "a guess until a first run has been measured here"
        return f"{plural(self.models, 'model')}{side}: about **{duration(self.seconds)}** ({source})."


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained: every combination of n and seed, `parallel` at a time."""

    preset: str
    n_futures: tuple[int, ...]
    seeds: tuple[int, ...]
    control: Control
    steps: int
    parallel: int


def estimate(plan: Plan, records: Sequence[RunRecord], *, seconds_per_step: float, n_layers: int) -> Estimate:
    """How long a plan takes: at the pace of finished runs like it, else at the preset's for n = 1."""
    each: list[float] = []
    measured = True
    for n_future in plan.n_futures:
        rate = _measured(records, plan.preset, n_future, plan.control)
        if rate is None:
            measured = False
            deeper = (n_layers + n_future - 1) / n_layers if plan.control == "trunk" else 1.0
            rate = seconds_per_step * deeper * (SIDE_BY_SIDE if plan.parallel > 1 else 1.0)
        each.append(rate * plan.steps)
    models = len(plan.n_futures) * len(plan.seeds)
    seconds = START_UP + max(max(each, default=0.0), len(plan.seeds) * sum(each) / max(1, plan.parallel))
    parallel = max(1, min(plan.parallel, models))
    return Estimate(seconds=seconds, models=models, parallel=parallel, measured=measured and bool(each))


def _measured(records: Sequence[RunRecord], preset: str, n_future: int, control: str) -> float | None:
    """Wall-clock seconds per step of the newest finished run of this kind on this machine, evaluations included."""
    for record in reversed(records):
        same = (record.preset, record.n_future) == (preset, n_future) and (n_future == 1 or record.control == control)
        if same and record.status == "finished" and record.step and record.finished:
            whole = record.finished - record.created
            return (whole if record.seconds < whole < 3 * record.seconds else record.seconds) / record.step
    return None
