"""Stored runs that are made up, whose score crosses half way at a given moment."""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

from playground.config import RunConfig
from playground.results import ScoreInfo
from playground.runs.record import FORMAT, RunRecord
from playground.runs.writing import append_line, write_json

SCORE = ScoreInfo(name="repeat_accuracy", chance=0.1, ceiling=1.0, unit="share of tokens", higher_is_better=True)
SEEN = 100_000
_numbers = itertools.count()


def store(folder: Path, config: RunConfig, crossing: float | None, **record: Any) -> Path:
    """A finished run whose score goes through half way after `crossing` thousand tokens; None: it stays at chance."""
    number = next(_numbers)
    path = folder / f"{config.label()}-{config.hash()}-{number}"
    path.mkdir(parents=True)
    write_json(path / "config.json", config.to_dict())
    points = {0: SCORE.chance}
    if crossing is not None:
        points[round(2000 * crossing)] = SCORE.ceiling
    points[SEEN] = SCORE.chance if crossing is None else SCORE.ceiling
    for step, (tokens, value) in enumerate(points.items()):
        row = {
            "kind": "eval",
            "step": step,
            "tokens": tokens,
            "seconds": tokens / 1e4,
            "test_loss_1": 2.0,
            SCORE.name: value,
        }
        append_line(path / "metrics.jsonl", row)
    model, now = config.model, time.time()
    written = RunRecord(
        run=path.name,
        format=FORMAT,
        status="finished",
        task=config.task.name,
        preset=config.preset,
        n_future=model.n_future,
        control=model.control,
        seed=config.seed,
        config_hash=config.hash(),
        steps=config.train.steps,
        step=config.train.steps,
        tokens=SEEN,
        seconds=SEEN / 1e4,
        tokens_per_second=1e4,
        created=now + number,
        updated=now,
        device="cpu (2 threads)",
        threads=2,
        scores=(SCORE,),
        final={SCORE.name: points[SEEN]},
    )
    write_json(path / "run.json", dataclasses.replace(written, **record).to_dict())
    return path
