"""Floors: the rates at which the device copies memory and multiplies matrices. Other benchmarks are compared with them.

- copy: one tensor larger than any cache to another; bytes read plus bytes written.
- matmul: two square matrices of normal random numbers, bfloat16 on CUDA and float32 on the CPU. Random, because a GPU
  multiplies zeros with less power and so at a higher clock.

Both are what plain torch reaches here, not the manufacturer's specification.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch

from benchmarks.timing import Row, kernel_seconds, quartiles, summary
from tasks.base import seeded_generator

SEED = 0
REPEATS = 20


class Work(NamedTuple):
    """Sizes of the copy and of the product."""

    copy_bytes: int
    """Size of the tensor that is copied."""
    matmul_size: int
    """Rows and columns of both matrices."""


SIZES = {"cpu": Work(2**29, 1536), "cuda": Work(2**32, 8192)}
QUICK = Work(2**22, 64)


class Floors(NamedTuple):
    """Medians of the measured rates."""

    copy_gb_s: float
    """GB/s, read plus written."""
    matmul_tflop_s: float
    """TFLOP/s in the precision of training on this device."""


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """A row for each of the two rates."""
    work, repeats = _sizes(device, quick)
    copies, products = copy_rates(device, work.copy_bytes, repeats), matmul_rates(device, work.matmul_size, repeats)
    dtype = str(precision(device)).removeprefix("torch.")
    yield {
        "benchmark": "floors",
        "what": "copy",
        "seed": SEED,
        **summary(copies, "GB/s"),
        "bytes": work.copy_bytes,
    }
    yield {
        "benchmark": "floors",
        "what": f"matmul, {dtype}",
        "seed": SEED,
        **summary(products, "TFLOP/s"),
        "matrix_size": work.matmul_size,
    }


@functools.cache
def measured(device: str, quick: bool = False) -> Floors:
    """Both rates, measured once per process."""
    work, repeats = _sizes(device, quick)
    copies = copy_rates(device, work.copy_bytes, repeats)
    products = matmul_rates(device, work.matmul_size, repeats)
    return Floors(quartiles(copies)[1], quartiles(products)[1])


def precision(device: str) -> torch.dtype:
    """The dtype of matrix products in training on this device."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def copy_rates(device: str, size: int, repeats: int) -> list[float]:
    """GB/s of copying `size` bytes, read plus written, once for each repeat."""
    source = torch.randint(256, (size,), dtype=torch.uint8, generator=seeded_generator(SEED, device), device=device)
    goal = torch.empty_like(source)
    return [2 * size / spent / 1e9 for spent in kernel_seconds(lambda: goal.copy_(source), device, repeats)]


def matmul_rates(device: str, size: int, repeats: int) -> list[float]:
    """TFLOP/s of multiplying two `size` x `size` matrices of normal random numbers, once for each repeat."""
    generator = seeded_generator(SEED, device)
    left, right, product = (
        torch.randn(size, size, generator=generator, device=device).to(precision(device)) for _ in range(3)
    )
    times = kernel_seconds(lambda: torch.mm(left, right, out=product), device, repeats, warmup=10)
    return [2 * size**3 / spent / 1e12 for spent in times]


def _sizes(device: str, quick: bool) -> tuple[Work, int]:
    return (QUICK, 3) if quick else (SIZES[device], REPEATS)
