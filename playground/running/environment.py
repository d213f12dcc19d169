"""The environment of a run: device, peak memory, speed of matrix products, versions, commit."""

import importlib.metadata
import platform
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

_RSS_UNIT = 1 if platform.system() == "Darwin" else 1024


def pick_device(device: str, advice: str = "write --device cpu or auto") -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Raises ValueError, with advice, for `cuda` without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is 'cuda', and torch sees no GPU here; {advice}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def describe_device(device: torch.device, n_threads: int) -> str:
    """Readable name of the device: `cpu (2 threads)` or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({n_threads} thread{'s' if n_threads > 1 else ''})"


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process so far, in bytes: GPU memory for a GPU, resident memory for the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return psutil.Process().memory_info().peak_wset  # pyright: ignore[reportAttributeAccessIssue]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


@cache
def matmul_rate(device: torch.device, n_threads: int) -> float:
    """FLOPs per second of a large matrix product on this device: float32 on the CPU, bfloat16 on a GPU.

    An upper bound for training. Measured with random matrices; the fastest of several products counts.
    """
    on_cuda = device.type == "cuda"
    size, dtype = (8192, torch.bfloat16) if on_cuda else (1024, torch.float32)
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator, device=device, dtype=dtype) for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    times: list[float] = []
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(left, right)
        if on_cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    torch.set_num_threads(before)
    return 2 * size**3 / min(times)


@cache
def environment() -> dict[str, Any]:
    """Versions of the libraries that compute the numbers, and the commit of the code if it is in a git checkout."""
    versions = {"python": platform.python_version(), "machine": platform.machine(), "torch": torch.__version__}
    for package in ("numpy", "transformer-lens", "safetensors"):
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
