"""Creation of a new run's folder: it appears in one rename, is locked from that moment, and is a direct child of runs_dir.

The files are first written into `.new-*/run`. The lock file is locked there and keeps its lock through the rename.
"""

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
"""Prefix of the names of folders that are not complete yet."""
RUN = "run"
MOST_TRIES = 5


def run_folder(runs_dir: Path, run_id: str) -> Path:
    """Path of the folder of a run that does not exist yet.

    Raises ValueError for an id that is not a plain name (it could point outside of the runs folder), RunError for an id that
    is taken.
    """
    check_name(run_id, "run id")
    path = runs_dir / run_id
    if path.exists() or path.is_symlink():
        raise RunError(f"there is a run '{run_id}' in {runs_dir} already; choose another id")
    return path


def make_folder(path: Path, config: RunConfig, record: RunRecord, task: Task) -> tuple[RunRecord, BaseFileLock]:
    """Make a run's folder with its first files; returns the record as written, and the run's lock, already acquired.

    Raises RunError when the name is taken, OSError when it cannot be written; no folder remains then.
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
        folder.rename(path)  # fails if another process has made it in the meantime
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
    """A new folder that contains a locked folder `run`.

    Another process (`remove_unfinished`) may remove it while it is empty or not locked; hence the check and several tries.
    """
    for _ in range(MOST_TRIES):
        outer = Path(tempfile.mkdtemp(prefix=PREFIX, dir=runs_dir))
        lock: BaseFileLock | None = None
        try:
            (outer / RUN).mkdir()
            lock = acquire(outer / RUN)
            if is_locked(outer / RUN):  # False: our lock is on a file that was deleted before we locked it
                return outer, lock
        except (FileNotFoundError, Absent):
            pass
        except BaseException:
            shutil.rmtree(outer, ignore_errors=True)
            raise
        if lock is not None:
            lock.release()
        shutil.rmtree(outer, ignore_errors=True)
    raise RunError(f"new folders in {runs_dir} disappear while they are made; does another program delete files there?")


def _save_task(task: Task, folder: Path) -> dict[str, str]:
    """Write the files that a text task stores in a run (tokenizer, test set); returns SHA-256 by file name."""
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
    """The umask, derived from a folder that was made with it: os.umask can only be read by changing it."""
    return ~folder.stat().st_mode & 0o777


def remove_unfinished(runs_dir: Path) -> None:
    """Remove unfinished folders of processes that ended while they made a run: empty ones, and those without a held lock.

    A folder that contains anything other than files of a run is not changed.
    """
    for outer in runs_dir.glob(f"{PREFIX}*"):
        folder = outer / RUN
        with contextlib.suppress(OSError, RunError):  # another process may be using or removing it
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
    """True if a folder contains nothing except the files of a run in the folder `run`."""
    places = (path.relative_to(outer).as_posix() for path in outer.rglob("*"))
    return all(
        place == RUN or (place.startswith(f"{RUN}/") and is_own(outer / place, place.removeprefix(f"{RUN}/")))
        for place in places
    )
