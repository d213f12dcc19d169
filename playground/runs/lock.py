"""One process at a time on a run: a lock that the operating system lets go of when its holder dies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from playground.runs.store import RunError


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the run in folder `path`. Raises RunError when another process (or another call in this one) does."""
    try:
        lock = FileLock(path / ".lock").acquire(timeout=0)
    except Timeout:
        raise RunError(f"run {path.name} is being trained by another process; wait for it, or stop it") from None
    with lock:
        yield
