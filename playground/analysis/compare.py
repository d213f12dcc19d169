"""The row of one run in a comparison: the numbers by which runs are compared."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.analysis.statistics import crossing
from playground.config import ModelConfig
from playground.config.flops import training_flops_per_token
from playground.runs.errors import RunError
from playground.runs.metrics import Columns, numbers_of, of_kind
from playground.runs.record import RunRecord
from playground.runs.store import Run


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The numbers of one run. `score` is the task's headline score: the final one, or the newest of an unfinished run."""

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
    """Tokens after which the score stays half way or more from chance to ceiling (`crossing`); None: not reached."""
    t50_seconds: float | None
    """Seconds of training at that point."""
    t50_flops: float | None
    """Model FLOPs of training up to that point; None also where they are not known, as on a base."""
    measured_tokens: int
    """Tokens at the last evaluation; if `t50_tokens` is None, the score has not crossed half way up to there."""
    clipped: float | None
    """Share of the steps whose gradient was clipped; None where an older run did not store it."""
    parameters: int
    next_token_depth: int
    tokens_per_second: float
    threads: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare_run(run: Run) -> Comparison:
    """The row of one run, finished or not."""
    try:
        flops = flops_per_token(run.values)
    except RunError:  # the record and the metrics suffice for all but the FLOPs
        flops = None
    return compare(run.record, run.columns, flops)


def flops_per_token(config: Mapping[str, Any]) -> float | None:
    """Model FLOPs of training per input token, from the contents of a config.json.

    None for a run on a frozen base, to which the formula does not apply, and where the stored configuration is incomplete.
    """
    if config.get("base"):
        return None
    try:
        return training_flops_per_token(ModelConfig(**config["model"]))
    except (TypeError, ValueError, KeyError):
        return None


def compare(record: RunRecord, metrics: Columns, flops_per_token: float | None = None) -> Comparison:
    """The row of one run, from its record, its metrics and its FLOPs per token (`flops_per_token`)."""
    info = record.scores[0] if record.scores else None
    score, t50, seconds, last = None, None, None, 0
    if info is not None:
        measured = numbers_of(metrics, info.name, "eval")
        if measured is not None and len(measured):
            values, tokens = measured.tolist(), np.asarray(metrics["tokens"])[of_kind(metrics, "eval")].tolist()
            t50 = crossing(tokens, values, info.chance, info.ceiling)
            if t50 is not None:
                seconds = float(np.interp(t50, tokens, np.asarray(metrics["seconds"])[of_kind(metrics, "eval")]))
            whole = [place for place, value in enumerate(values) if math.isfinite(value)]
            if whole:
                score, last = values[whole[-1]], int(tokens[whole[-1]])
        score = record.final.get(info.name, score)
    return Comparison(
        run=record.run,
        task=record.task,
        preset=record.preset,
        n_future=record.n_future,
        control=record.control,
        seed=record.seed,
        status=record.state,
        step=record.step,
        steps=record.steps,
        tokens=record.tokens,
        seconds=round(record.seconds, 3),
        score_name=info.name if info else None,
        higher_is_better=info.higher_is_better if info else None,
        score=score,
        chance=info.chance if info else None,
        ceiling=info.ceiling if info else None,
        t50_tokens=None if t50 is None else round(t50),
        t50_seconds=None if seconds is None else round(seconds, 3),
        t50_flops=None if t50 is None or flops_per_token is None else t50 * flops_per_token,
        measured_tokens=last,
        clipped=_mean(numbers_of(metrics, "clipped", "train")),
        parameters=record.parameters.get("total", 0),
        next_token_depth=record.next_token_depth,
        tokens_per_second=round(record.tokens_per_second, 1),
        threads=record.threads,
        device=record.device,
    )


def _mean(values: NDArray[np.float64] | None) -> float | None:
    """Mean of the stored values; every row of training metrics covers equally many steps."""
    known = np.array([]) if values is None else values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
