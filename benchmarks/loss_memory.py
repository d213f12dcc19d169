"""Peak memory of the n-token loss: one graph against head by head, at a vocabulary of 32,000.

On CUDA the allocator's own peak. On the CPU a process of its own for each measurement, and its peak resident set less
the resident set before the step.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from playground.config import ModelConfig
from playground.model.transformer import MTPTransformer
from playground.training.loss import LOSS
from tasks.base import Batch

VOCABULARY, ROWS, CONTEXT = 32_000, 8, 128


def run(device: str) -> Iterator[dict[str, Any]]:
    """Peak megabytes of a forward and backward pass, and what n heads cost over one. Target for per_head: about 1."""
    peaks: dict[tuple[str, int], float] = {}
    for n_future in (1, 2, 4, 8):
        for backward in ("one_graph", "per_head"):
            peaks[backward, n_future] = _peak(device, backward, n_future)
            yield {
                "benchmark": "loss_memory", "d_vocab": VOCABULARY, "n_future": n_future, "backward": backward,
                "peak_mb": round(peaks[backward, n_future]),
                "ratio_to_n_1": round(peaks[backward, n_future] / peaks[backward, 1], 3),
            }  # fmt: skip


def _peak(device: str, backward: str, n_future: int) -> float:
    if device == "cuda":
        return measure(device, backward, n_future)
    command = [sys.executable, "-m", "benchmarks.loss_memory", backward, str(n_future)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(device: str, backward: str, n_future: int) -> float:
    """Megabytes that one forward and backward pass adds at its peak. The model has equal layers for every n."""
    config = ModelConfig(n_layers=10, d_model=128, n_heads=4, n_future=n_future, d_vocab=VOCABULARY, n_ctx=CONTEXT)
    model = MTPTransformer(config).to(device)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    tokens = torch.randint(VOCABULARY, (ROWS, CONTEXT), device=device)
    everything = torch.ones_like(tokens, dtype=torch.bool)
    batch = Batch(tokens=tokens, loss_mask=everything, score_mask=everything, documents=torch.zeros_like(tokens))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        LOSS[backward](model, batch, None).total.backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _status_kb("VmRSS")
    LOSS[backward](model, batch, None).total.backward()
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(name: str) -> int:
    """A figure of this process from the kernel (Linux), in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(json.dumps(measure("cpu", sys.argv[1], int(sys.argv[2]))))
