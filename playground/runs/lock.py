"""Locks of runs. The operating system releases a lock when the process that holds it ends, even if it is killed.

`.lock` is held while a run is trained, `.probing.lock` while probes write into it, both while it is removed. Only the lock
decides whether a run is in training: process ids are reused, and clocks can be changed.
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
"""Seconds to wait for a lock, because `is_locked` itself holds it for a moment while it tests it."""


def acquire(path: Path) -> BaseFileLock:
    """Acquire the training lock of the run in folder `path`. Raises RunError when another process or call holds it."""
    return _acquire(path, LOCK, "is being trained by another process; wait for it, or stop it")


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the training lock of the run in folder `path`. Raises RunError when it is trained or probed elsewhere.

    Training and probing each acquire their own lock first and then test the other's. In the opposite order both could see a
    free lock and run at once.
    """
    with acquire(path):
        if is_locked(path, PROBING):
            raise RunError(f"run {path.name} {PROBED}")
        yield


@contextlib.contextmanager
def probing_lock(path: Path) -> Iterator[None]:
    """Hold the probing lock of the run in folder `path`. Raises RunError when it is trained or probed elsewhere."""
    with _acquire(path, PROBING, PROBED):
        if is_locked(path):
            raise RunError(f"run {path.name} is being trained by another process; wait for it, or stop it")
        yield


@contextlib.contextmanager
def sole_lock(path: Path) -> Iterator[None]:
    """Hold both locks of the run in folder `path`, against training and probing. Raises RunError when one is held."""
    with acquire(path), _acquire(path, PROBING, PROBED):
        yield


def is_locked(path: Path, name: str = LOCK) -> bool:
    """True if a process holds the lock now; for `.lock` this means that the run is being trained."""
    file = path / name
    if fcntl is None:  # FileLock would create the file, so test first that it exists
        return file.exists() and not _can_lock(file)
    try:
        handle = file.open("rb")
    except OSError:
        return False
    with handle:
        try:
            # Shared, so that two processes that test at the same time do not see each other's test as a holder.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def holder(path: Path, pid: int, name: str = LOCK) -> psutil.Process | None:
    """The process `pid` if it has the lock file open (`.lock`: if it trains the run in folder `path`).

    None if that cannot be confirmed; the id may belong to another process by now.
    """
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
    except FileExistsError as error:  # raised by filelock if the folder disappears meanwhile
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
