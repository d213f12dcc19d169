"""Which process works on a run: locks that the operating system releases when their holder ends, however it ends.

`.lock` is held while a run is trained, `.probing.lock` while probes write into it, both while it is removed. Whether a run is
in training is decided by its lock alone: process ids are used again, and clocks are set.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import BaseFileLock, FileLock, Timeout

from playground.runs.errors import Absent, RunError, reading_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
PROBING = ".probing.lock"
PROBED = "is being probed by another process; wait for it"
PATIENCE = 0.3
"""Seconds to wait for a lock: `is_locked` holds one for an instant while it looks."""


def acquire(path: Path) -> BaseFileLock:
    """Take the training lock of the run in folder `path`. Raises RunError when another process (or another call) holds it."""
    return _acquire(path, LOCK, "is being trained by another process; wait for it, or stop it")


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the run in folder `path` for training. Raises RunError as `acquire` does, and when it is probed elsewhere.

    Each of training and probing takes its own lock first and looks at the other's then, so that never both go on.
    """
    with acquire(path):
        if is_locked(path, PROBING):
            raise RunError(f"run {path.name} {PROBED}")
        yield


@contextlib.contextmanager
def probing_lock(path: Path) -> Iterator[None]:
    """Hold the run in folder `path` while probes write into it. Raises RunError when it is trained or probed elsewhere."""
    with _acquire(path, PROBING, PROBED):
        if is_locked(path):
            raise RunError(f"run {path.name} is being trained by another process; wait for it, or stop it")
        yield


@contextlib.contextmanager
def sole_lock(path: Path) -> Iterator[None]:
    """Hold the run in folder `path` against training and probing alike."""
    with acquire(path), _acquire(path, PROBING, PROBED):
        yield


def is_locked(path: Path, name: str = LOCK) -> bool:
    """Whether a process holds the lock now: for `.lock`, whether the run is being trained."""
    file = path / name
    if fcntl is None:  # the library's lock creates the file, so look first
        return file.exists() and not _can_lock(file)
    try:
        handle = file.open("rb")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def holder(path: Path, pid: int, name: str = LOCK) -> psutil.Process | None:
    """The process `pid` if it holds the lock (`.lock`: if it trains the run in folder `path`); None where that is unsure."""
    try:
        process = psutil.Process(pid)
        file = str((path / name).resolve())
        return process if any(opened.path == file for opened in process.open_files()) else None
    except (psutil.Error, OSError, ValueError):
        return None


def _acquire(path: Path, name: str, why: str) -> BaseFileLock:
    lock = FileLock(path / name)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.02)
    except Timeout:
        raise RunError(f"run {path.name} {why}") from None
    except FileExistsError as error:  # from the library: the folder vanished while it looked for it
        raise Absent(f"{path} vanished") from error
    except OSError as error:
        raise reading_error(path / name, error) from error
    return lock


def _can_lock(file: Path) -> bool:
    try:
        with FileLock(file).acquire(timeout=0):
            return True
    except Timeout:
        return False
