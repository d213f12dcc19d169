"""Tokens a second that each task generates, and the share of a training step's time that its data takes."""

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.timing import in_turns
from playground.experiments.presets import make_config
from playground.model.transformer import MTPTransformer
from playground.training.loop import fit, start_state
from tasks.base import seeded_generator
from tasks.registry import make_task

# Rows per call, and the target: tokens (for polynomials expressions) a second on two CPU cores.
CASES = {
    "induction": (1024, 20e6, "tokens"),
    "stories": (512, 2e6, "tokens"),
    "polynomial": (512, 60e3, "expressions"),
    "bytes": (512, 50e6, "tokens"),
}


def run(device: str) -> Iterator[dict[str, Any]]:
    """First the generators alone at their defaults, then the share of data in a step of each task's preset."""
    generator = seeded_generator(0, device)
    for name, (rows, target, unit) in CASES.items():
        task = make_task(name)
        times = in_turns({name: lambda task=task, rows=rows: task.sample(rows, generator, device)}, device, repeats=15)
        batch = task.sample(rows, generator, device)
        count = batch.tokens.numel() if unit == "tokens" else int(_expressions(batch.documents))
        rate = count / statistics.median(times[name])
        yield {
            "benchmark": "task_speed", "task": name, "rows": rows, "unit": f"{unit}/s", "value": round(rate),
            "target": target, "ratio": round(rate / target, 3),
        }  # fmt: skip
    for name in CASES:
        yield _share(name, device)


def _expressions(documents: torch.Tensor) -> torch.Tensor:
    """How many documents the rows hold in all."""
    return (documents.max(dim=1).values + 1).sum()


def _share(name: str, device: str) -> dict[str, Any]:
    preset = f"{name}-{'gpu' if device == 'cuda' else 'cpu'}"
    config = make_config(preset, steps=10**6)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    generator = seeded_generator(0, device)
    state = start_state(MTPTransformer(config.model).to(device), config, generator)
    rows = config.train.batch_size

    def sample() -> Any:
        return task.sample(rows, generator, device)

    def step() -> None:
        goal = state.step + 1
        state.pending.clear()
        fit(state, sample, config, should_stop=lambda: state.step >= goal)

    times = in_turns({"step": step, "data": sample}, device, repeats=20)
    share = statistics.median(times["data"]) / statistics.median(times["step"])
    return {
        "benchmark": "data_share", "preset": preset, "target": 0.05, "ratio": round(share, 4),
        "step_ms": round(1000 * statistics.median(times["step"]), 2),
        "data_ms": round(1000 * statistics.median(times["data"]), 3),
    }  # fmt: skip
