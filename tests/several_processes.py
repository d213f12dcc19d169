"""A function on several processes at once, which import the libraries once and without shape checks."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from torch.multiprocessing.spawn import start_processes

PRELOADED = ["playground.running.runner"]


def on_processes(work: Callable[[int, Path], None], folder: Path, *, size: int = 2) -> None:
    """`work(rank, folder)` in new processes; returns when they have ended. An error in one of them is raised here."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    start_processes(_one, (work, folder), nprocs=size, start_method="forkserver")


def _one(rank: int, work: Callable[[int, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    work(rank, folder)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def like_torchrun(rank: int, port: int, *, size: int = 2, device: str = "cpu") -> None:
    """Set what torchrun sets, for this process."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
