"""What a run ran on: device, threads, versions, commit; and the seeds derived from the run's one seed."""

import importlib.metadata
import os
import platform
import subprocess
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


def pick_device(device: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises ValueError for `cuda` where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', and torch sees no GPU here; write --device cpu or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def threads(wanted: int | None) -> int:
    """CPU threads to use: the wanted number, or one for each core this process may use."""
    if wanted is not None:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_device(device: torch.device, n_threads: int) -> str:
    """Name of the device for people: `cpu (2 threads)` or the GPU's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({n_threads} thread{'s' if n_threads > 1 else ''})"


def stream(seed: int, name: str) -> int:
    """A seed for one named stream of randomness of a run; streams of one run and of different seeds are independent."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0] >> 1)


@cache
def environment() -> dict[str, Any]:
    """Versions of what computes the numbers, and the commit of the code where it lies in a git checkout."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "numpy", "transformer-lens", "safetensors"):
        versions[package] = importlib.metadata.version(package)
    return {"versions": versions, "commit": _commit()}


def _commit() -> str:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
