"""AdamW's step, which is bound by memory bandwidth: bytes per second, compared with the device's copy rate.

For every parameter, in float32, a fused step reads weight, gradient and both moments (16 bytes) and writes weight and moments
(12 bytes).
"""

from collections.abc import Iterator

import torch

from benchmarks import floors
from benchmarks.timing import Row, kernel_seconds, ratio, rounded, summary
from playground.config import SIZES, ModelConfig, OptimConfig
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.training.optim import make_optimizer
from tasks.base import seeded_generator

SEED, REPEATS = 0, 20
BYTES_PER_PARAMETER = 28
MODELS = {"cpu": ("30M",), "cuda": ("30M", "100M", "300M")}
"""Model sizes with an optimizer state larger than the caches."""


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """A line for each size."""
    for size in ("1M",) if quick else MODELS[device]:
        yield _measure(size, device, 3 if quick else REPEATS, floors.measured(device, quick).copy_gb_s)


def _measure(size: str, device: str, repeats: int, copy_gb_s: float) -> Row:
    config = ModelConfig(**SIZES[size], d_vocab=256, n_ctx=256)  # pyright: ignore[reportArgumentType]
    model = MTPTransformer(config).to(device)
    generator = seeded_generator(SEED, device)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, device=device)
    optimizer = make_optimizer(model, OptimConfig())
    moved = BYTES_PER_PARAMETER * count_parameters(config).total
    rates = [moved / spent / 1e9 for spent in kernel_seconds(optimizer.step, device, repeats)]
    return {
        "benchmark": "optimizer_step",
        "size": size,
        "seed": SEED,
        **summary(rates, "GB/s"),
        "bytes": moved,
        "floor": rounded(copy_gb_s),
        "floor_is": "copy rate",
        **ratio(rates, [copy_gb_s] * repeats),
    }
