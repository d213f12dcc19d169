"""Peak memory of the n-token loss: one graph against head by head, at a vocabulary of 32,000.

Measured is the peak memory that a forward and backward pass adds to a model with allocated gradients; every n has equally many
layers. On CUDA it is the allocator's peak, in bfloat16 as in training. On the CPU each measurement runs in a separate process:
its peak resident set minus the resident set before the step. For n = 1 there is also the plain GPT (benchmarks/plain_gpt.py).
"""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

from benchmarks.plain_gpt import PlainGPT
from benchmarks.steps import whole_batch
from benchmarks.timing import Row, quartiles, rounded, summary
from playground.config import ModelConfig
from playground.model.transformer import MTPTransformer
from playground.training.objectives.n_token import NToken
from tasks.base import seeded_generator

SEED, TARGET = 0, 1.05


LET_GO = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Setting of glibc: memory of a freed tensor is returned at once, instead of being kept for reuse or as a hole."""


class Setting(NamedTuple):
    """A model and a batch."""

    n_layers: int
    d_model: int
    n_heads: int
    d_vocab: int
    rows: int
    context: int
    repeats: int
    n_future: tuple[int, ...] = (1, 4, 8)


SETTINGS = {
    "cpu": Setting(10, 128, 4, 32_000, rows=8, context=128, repeats=2),
    "cuda": Setting(10, 512, 8, 32_000, rows=8, context=1024, repeats=3),
    "quick": Setting(5, 16, 2, 64, rows=2, context=16, repeats=1, n_future=(1,)),
}


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """Peak megabytes for each n and `backward`; `ratio` is relative to n = 1 with that `backward`. Per_head's target: 1.05."""
    name = "quick" if quick else device
    one: dict[str, float] = {}
    for backward in ("per_head", "one_graph", "plain GPT"):
        for n_future in (1,) if backward == "plain GPT" else SETTINGS[name].n_future:
            peaks = _peaks(device, SETTINGS[name], backward, n_future)
            low, middle, high = quartiles(peaks)
            first = one.setdefault(backward, middle)
            yield {
                "benchmark": "loss_memory",
                "backward": backward,
                "n_future": n_future,
                "d_vocab": SETTINGS[name].d_vocab,
                "rows": SETTINGS[name].rows,
                "context": SETTINGS[name].context,
                "seed": SEED,
                **summary(peaks, "MB"),
                "ratio": rounded(middle / first),
                "ratio_quartile_low": rounded(low / first),
                "ratio_quartile_high": rounded(high / first),
                "target": TARGET if backward == "per_head" and n_future > 1 else None,
                "target_is": "at most",
            }


def _peaks(device: str, setting: Setting, backward: str, n_future: int) -> list[float]:
    if device == "cuda":
        return [measure(device, setting, backward, n_future) for _ in range(setting.repeats)]
    server = multiprocessing.get_context("forkserver")  # forks fresh processes with torch already loaded
    server.set_forkserver_preload([__name__])
    with (
        mock.patch.dict(os.environ, LET_GO),
        ProcessPoolExecutor(setting.repeats, server, max_tasks_per_child=1) as pool,
    ):
        futures = [pool.submit(measure, device, setting, backward, n_future) for _ in range(setting.repeats)]
        return [future.result() for future in futures]


def measure(device: str, setting: Setting, backward: str, n_future: int) -> float:
    """Peak megabytes that one forward and backward pass adds."""
    loss, model = _loss(device, setting, backward, n_future)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if device == "cuda":
        _forward_and_backward(loss, device)  # libraries allocate their workspace at first use
        gc.collect()  # else remains of earlier models could be freed during the measurement
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _forward_and_backward(loss, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _status_kb("VmRSS")
    _forward_and_backward(loss, device)
    return (_status_kb("VmHWM") - before) / 1024


def _forward_and_backward(loss: Callable[[], torch.Tensor], device: str) -> None:
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        total = loss()
    total.backward()


def _loss(
    device: str, setting: Setting, backward: str, n_future: int
) -> tuple[Callable[[], torch.Tensor], torch.nn.Module]:
    """A function that computes the loss to differentiate, and the model."""
    config = ModelConfig(
        n_layers=setting.n_layers,
        d_model=setting.d_model,
        n_heads=setting.n_heads,
        n_future=n_future,
        d_vocab=setting.d_vocab,
        n_ctx=setting.context,
    )
    shape = (setting.rows, setting.context)
    tokens = torch.randint(setting.d_vocab, shape, generator=seeded_generator(SEED)).to(device)
    if backward == "plain GPT":
        plain = PlainGPT(config).to(device)
        return lambda: plain(tokens), plain
    model, batch = MTPTransformer(config).to(device), whole_batch(tokens)
    return lambda: NToken().loss(backward)(model, batch, None).total, model


def _status_kb(name: str) -> int:
    """A value from /proc/self/status (Linux), in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
