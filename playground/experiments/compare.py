"""One row a run: the figures by which runs are compared."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from playground.experiments.statistics import crossing
from playground.runs.metrics import Columns, numbers_of, of_kind
from playground.runs.record import RunRecord


@runtime_checkable
class StoredMetrics(Protocol):
    """What is read of a run: its record and its metrics. `Run` has both."""

    @property
    def record(self) -> RunRecord: ...

    @property
    def metrics(self) -> pd.DataFrame:
        """Rows as `Run.metrics` gives them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run in one row. `score` is the task's headline score: the final one, or the last measured so far."""

    run: str
    task: str
    preset: str | None
    n_future: int
    control: str
    seed: int
    status: str
    step: int
    steps: int
    tokens: int
    seconds: float
    score_name: str | None
    higher_is_better: bool | None
    score: float | None
    chance: float | None
    ceiling: float | None
    t50_tokens: int | None
    """Tokens at which the score is half way from chance to ceiling and stays; None: not reached."""
    measured_tokens: int
    """Tokens at the last evaluation: how far it is known whether the score has come half way."""
    parameters: int
    next_token_depth: int
    tokens_per_second: float
    threads: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def compare_run(run: StoredMetrics) -> Comparison:
    """The row of one run, finished or not."""
    return compare(run.record, run.metrics)


def compare(record: RunRecord, metrics: Columns) -> Comparison:
    """`compare_run`, from what it reads of a run."""
    info = record.scores[0] if record.scores else None
    score, t50, last = None, None, 0
    if info is not None:
        measured = numbers_of(metrics, info.name, "eval")
        if measured is not None and len(measured):
            values, tokens = measured.tolist(), np.asarray(metrics["tokens"])[of_kind(metrics, "eval")].tolist()
            t50 = crossing(tokens, values, info.chance, info.ceiling)
            whole = [place for place, value in enumerate(values) if math.isfinite(value)]
            if whole:
                score, last = values[whole[-1]], int(tokens[whole[-1]])
        score = record.final.get(info.name, score)
    return Comparison(
        run=record.run, task=record.task, preset=record.preset, n_future=record.n_future, control=record.control,
        seed=record.seed, status=record.state, step=record.step, steps=record.steps, tokens=record.tokens,
        seconds=round(record.seconds, 3), score_name=info.name if info else None,
        higher_is_better=info.higher_is_better if info else None, score=score,
        chance=info.chance if info else None, ceiling=info.ceiling if info else None,
        t50_tokens=None if t50 is None else int(t50), measured_tokens=last, parameters=record.parameters.get("total", 0),
        next_token_depth=record.next_token_depth, tokens_per_second=round(record.tokens_per_second, 1),
        threads=record.threads, device=record.device,
    )  # fmt: skip
