"""A new run's folder: there all at once, locked from its first moment on, and only directly inside the runs folder."""

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path

from filelock import BaseFileLock

from playground.config import RunConfig
from playground.config.checks import check_name
from playground.runs.config import FILE
from playground.runs.errors import Absent, RunError
from playground.runs.lock import LOCK, acquire, is_locked
from playground.runs.reading import sha256_of
from playground.runs.record import RunRecord
from playground.runs.removal import is_own
from playground.runs.store import TASK_FOLDER
from playground.runs.writing import sync_file, sync_folder, write_json
from tasks.base import ReadsText, Task

PREFIX = ".new-"
"""What the names of folders begin with that are not complete yet."""
RUN = "run"
MOST_TRIES = 5


def run_folder(runs_dir: Path, run_id: str) -> Path:
    """The folder of a run that does not exist yet.

    Raises ValueError for an id that is no plain name (it could lead out of the runs folder), RunError for one that is taken.
    """
    check_name(run_id, "run id")
    path = runs_dir / run_id
    if path.exists() or path.is_symlink():
        raise RunError(f"there is a run '{run_id}' in {runs_dir} already; choose another id")
    return path


def make_folder(path: Path, config: RunConfig, record: RunRecord, task: Task) -> tuple[RunRecord, BaseFileLock]:
    """Make a run's folder with its first files; returns the record as written, and the run's lock, which is held.

    Raises RunError when the name is taken, OSError when it cannot be written; then no folder is left.
    """
    run_folder(path.parent, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    outer, lock = _locked_folder(path.parent)
    try:
        folder = outer / RUN
        record = dataclasses.replace(record, files=_save_task(task, folder / TASK_FOLDER), folder=str(path.absolute()))
        write_json(folder / FILE, config.to_dict())
        write_json(folder / "run.json", record.to_dict())
        folder.rename(path)  # fails for a folder that another process has made in the meantime
        sync_folder(path.parent)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError) and path.exists():
            raise RunError(f"there is a run '{path.name}' in {path.parent} already; choose another id") from error
        raise
    finally:
        shutil.rmtree(outer, ignore_errors=True)
    return record, lock


def _locked_folder(runs_dir: Path) -> tuple[Path, BaseFileLock]:
    """A new folder with a locked folder `run` in it. Another process may remove it as long as it is empty or not locked."""
    for _ in range(MOST_TRIES):
        outer = Path(tempfile.mkdtemp(prefix=PREFIX, dir=runs_dir))
        lock: BaseFileLock | None = None
        try:
            (outer / RUN).mkdir()
            lock = acquire(outer / RUN)
            if is_locked(outer / RUN):
                return outer, lock
        except (FileNotFoundError, Absent):
            pass
        except BaseException:
            shutil.rmtree(outer, ignore_errors=True)
            raise
        if lock is not None:
            lock.release()
        shutil.rmtree(outer, ignore_errors=True)
    raise RunError(f"folders in {runs_dir} vanish while they are made; does another program clean it?")


def _save_task(task: Task, folder: Path) -> dict[str, str]:
    """Write what a task that reads files keeps in a run; SHA-256 by file name."""
    if not isinstance(task, ReadsText) or not task.data_hash:
        return {}
    folder.mkdir()
    task.save(folder)
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o666 & ~_umask(folder))
        sync_file(path)
        found[path.name] = sha256_of(path)
    sync_folder(folder)
    return found


def _umask(folder: Path) -> int:
    """The umask, read off a folder that was made with it."""
    return ~folder.stat().st_mode & 0o777


def remove_unfinished(runs_dir: Path) -> None:
    """Remove folders of runs whose process ended while it made them: empty ones, and those whose lock no process holds.

    One that holds anything that no run has is left alone.
    """
    for outer in runs_dir.glob(f"{PREFIX}*"):
        folder = outer / RUN
        with contextlib.suppress(OSError, RunError):  # another process may be at work on it
            if outer.is_symlink() or not _holds_a_run_at_most(outer):
                continue
            if (folder / LOCK).exists():
                if not is_locked(folder):
                    with acquire(folder):
                        shutil.rmtree(outer, ignore_errors=True)
                continue
            if folder.exists():
                folder.rmdir()
            outer.rmdir()


def _holds_a_run_at_most(outer: Path) -> bool:
    """Whether nothing lies in a folder but the files of a run in the folder `run`."""
    places = (path.relative_to(outer).as_posix() for path in outer.rglob("*"))
    return all(
        place == RUN or (place.startswith(f"{RUN}/") and is_own(outer / place, place.removeprefix(f"{RUN}/")))
        for place in places
    )
