"""Tokens per second of each task's generator, and the data's share of the time of a training step."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from benchmarks.steps import UNTIMED, times_over, training_step
from benchmarks.timing import Row, in_turns, quartiles, ratio, rounded, summary
from playground.model.transformer import MTPTransformer
from playground.running.presets import make_config
from playground.training.sampler import Sampler
from tasks.base import seeded_generator
from tasks.registry import make_task

SEED, REPEATS = 0, 20
MOST_SHARE = 0.05


class Case(NamedTuple):
    """Batch size for timing a generator, and its target rate on two CPU cores."""

    rows: int
    wanted: float
    """Target rate, in `unit` per second."""
    unit: str
    """`tokens` or `expressions`."""


CASES = {
    "induction": Case(1024, 20e6, "tokens"),
    "stories": Case(512, 2e6, "tokens"),
    "polynomial": Case(512, 60e3, "expressions"),
    "bytes": Case(512, 50e6, "tokens"),
}


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """Rows of the generators alone with their defaults, then of the data's share in a step of each task's preset."""
    repeats, cases = (3, {"induction": Case(2, 20e6, "tokens")}) if quick else (REPEATS, CASES)
    for name, case in cases.items():
        yield _rate(name, case, device, repeats)
    for name in cases:
        yield _share(name, device, repeats, 2 if quick else None)


def _rate(name: str, case: Case, device: str, repeats: int) -> Row:
    task, generator = make_task(name), seeded_generator(SEED, device)
    times = in_turns({name: lambda: task.sample(case.rows, generator, device)}, device, repeats)[name]
    batch = task.sample(case.rows, generator, device)
    count = batch.tokens.numel() if case.unit == "tokens" else int(_expressions(batch.documents))
    rates = [count / spent for spent in times]
    return {
        "benchmark": "task_speed",
        "task": name,
        "rows": case.rows,
        "seed": SEED,
        **summary(rates, f"{case.unit}/s"),
        "wanted": case.wanted,
        **ratio(rates, [case.wanted] * repeats),
        "target": 1.0,
        "target_is": "at least",
    }


def _expressions(documents: torch.Tensor) -> torch.Tensor:
    """Total number of documents in the rows."""
    return (documents.max(dim=1).values + 1).sum()


def _share(name: str, device: str, repeats: int, rows: int | None) -> Row:
    preset = f"{name}-{'gpu' if device == 'cuda' else 'cpu'}"
    config = make_config(preset, seed=SEED)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    rows = rows or config.train.batch_size
    drawn, trained = (Sampler(task, rows, seeded_generator(SEED, device), device) for _ in range(2))
    step = training_step(MTPTransformer(config.model).to(device), config, trained)
    works = {"step": times_over(trained.block, step), "data": times_over(drawn.block, drawn)}
    blocks = in_turns(works, device, repeats, warmup=UNTIMED)
    times = {name: [spent / drawn.block for spent in of_blocks] for name, of_blocks in blocks.items()}
    return {
        "benchmark": "data_share",
        "preset": preset,
        "rows": rows,
        "seed": SEED,
        **summary([1000 * spent for spent in times["data"]], "ms"),
        "step_ms": rounded(1000 * quartiles(times["step"])[1]),
        **ratio(times["data"], times["step"]),
        "target": MOST_SHARE,
        "target_is": "at most",
    }
