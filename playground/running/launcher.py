"""Jobs: several trainings started from a page or a notebook, in a separate process that outlives the one that started it.

A job is a list of trainings in one file, `<runs_dir>/.jobs/<id>.json`, replaced atomically at every change. Its process
(playground/running/worker.py) holds a lock on `<id>.lock` from its start to its end, even if it is killed.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
from beartype.door import is_bearable
from filelock import FileLock

from playground.config import Control, check_name
from playground.config.checks import strict
from playground.running.children import PROJECT
from playground.running.cores import cores, threads
from playground.runs.errors import Damaged, RunError
from playground.runs.lock import holder, is_locked
from playground.runs.reading import MOST_NUMBER, is_number, is_text, read_json
from playground.runs.writing import write_json

EntryStatus = Literal["queued", "running", "finished", "stopped", "failed"]
STARTING = ".starting.lock"
MOST_ENTRIES = 2000
"""Most trainings of one job."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One training of a job."""

    preset: str
    n_future: int
    control: str
    seed: int
    steps: int
    objective: str = "n_token"
    run: str
    """Id of the future run; its folder appears when the training starts."""
    status: EntryStatus = "queued"
    message: str = ""
    """Why the training failed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contents of a job file."""

    id: str
    created: float
    parallel: int
    threads: int
    """CPU threads of each training."""
    device: str = "auto"
    stacked: bool = False
    """True if the seeds of one n share a process, side by side on a GPU."""
    entries: tuple[Entry, ...] = ()
    process: dict[str, Any] = field(default_factory=dict)
    """`pid` and `host` of the job's process; empty until it has started."""

    path: Path | None = None
    """Path of the job's file; not stored in it."""

    @property
    def active(self) -> bool:
        """True if trainings are queued or running and the job's process is alive, that is, its lock is held."""
        left = any(entry.status in ("queued", "running") for entry in self.entries)
        return left and self.path is not None and is_locked(self.path.parent, lock_name(self.id))

    def write(self) -> None:
        """Replace the job's file."""
        assert self.path is not None
        values = dataclasses.asdict(self)
        del values["path"]
        write_json(self.path, values)


def jobs_folder(runs_dir: Path | str) -> Path:
    """The folder of the job files of a runs folder."""
    return Path(runs_dir) / ".jobs"


def lock_name(job_id: str) -> str:
    """Name of the lock file of a job."""
    return f"{job_id}.lock"


def start_job(
    runs_dir: Path | str,
    preset: str,
    models: Sequence[tuple[int, int]],
    *,
    control: Control | None = None,
    steps: int | None = None,
    objective: str | None = None,
    parallel: int | None = None,
    device: str = "auto",
) -> Job:
    """Start the training of a model for each (n_future, seed), in this order; returns at once.

    `parallel` defaults to the number of CPU cores for `-cpu` presets (one thread each: many small trainings side by side
    are faster than one after another) and to 1 for `-gpu` presets.
    Raises ValueError for an unknown preset, an impossible combination or too many trainings, before anything starts.
    """
    from playground.running.environment import pick_device

    wanted = len(models)
    if wanted > MOST_ENTRIES:
        raise ValueError(f"{wanted:,} trainings are too many for one job; choose at most {MOST_ENTRIES:,}")
    folder = jobs_folder(runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    parallel = min(wanted, parallel or (1 if preset.endswith("-gpu") else cores()))
    each = threads(None, side_by_side=max(1, parallel))
    stacked = pick_device(device).type == "cuda"
    options = {"control": control, "steps": steps, "threads": each, "objective": objective}
    with FileLock(folder / STARTING):  # two concurrent calls must not choose equal run ids
        entries = _entries(Path(runs_dir), preset, models, **options)
        job_id = time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
        job = Job(
            id=job_id,
            created=time.time(),
            parallel=parallel,
            threads=each,
            device=device,
            stacked=stacked,
            entries=entries,
            path=(folder / f"{job_id}.json").resolve(),
        )
        _start_worker(job)
    return job


def _entries(runs_dir: Path, preset: str, models: Sequence[tuple[int, int]], **options: Any) -> tuple[Entry, ...]:
    from playground.running.presets import make_config
    from playground.running.runner import new_run_id

    at_work = (job for job in list_jobs(runs_dir) if job.active)
    taken = {entry.run for job in at_work for entry in job.entries}
    entries: list[Entry] = []
    for n_future, seed in models:
        config = make_config(preset, n_future=n_future, seed=seed, **options)
        run = new_run_id(config, runs_dir, taken)
        taken.add(run)
        known = {"control": config.model.control, "steps": config.train.steps, "run": run}
        known["objective"] = config.train.objective
        entries.append(Entry(preset=preset, n_future=n_future, seed=seed, **known))
    return tuple(entries)


def _start_worker(job: Job) -> None:
    """Write the job's file and start its process.

    The lock is taken here and inherited by the process (`pass_fds`), so that the job never appears without a held lock. A flock
    belongs to the open file: closing our descriptor does not release it while the process has its own.
    """
    import fcntl  # absent on Windows

    assert job.path is not None
    lock = os.open(job.path.with_name(lock_name(job.id)), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        job.write()
        with job.path.with_suffix(".log").open("wb") as log:
            subprocess.Popen(
                [sys.executable, "-m", "playground.running.worker", str(job.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=PROJECT,
                pass_fds=(lock,),
            )
    except BaseException:
        job.path.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)


def read_job(path: Path) -> Job:
    """Read a job file; the job's id is the name of the file. Raises Absent, Denied or Damaged."""
    values = read_json(path)
    try:
        entries = values.get("entries")
        if not is_bearable(entries, list[dict[str, Any]]) or len(entries) > MOST_ENTRIES:
            raise ValueError(f"its entries are not a list of at most {MOST_ENTRIES} objects")
        values["entries"] = [_checked(strict(Entry, entry, "entry")) for entry in entries]
        job = _checked(strict(Job, values, "job"))
        for entry in job.entries:
            check_name(entry.run, "run")  # names files
        check_name(path.stem, "job")
    except (TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return dataclasses.replace(job, id=path.stem, path=path)


def _checked(part: Any) -> Any:
    """Check the bounds of all values of an entry or a job; returns it. Raises ValueError."""
    for name, value in [*vars(part).items(), *getattr(part, "process", {}).items()]:
        if isinstance(value, str) and not is_text(value):
            raise ValueError(f"its {name} is not a text of bounded length")
        if isinstance(value, int | float) and not (is_number(value) or isinstance(value, bool)):
            raise ValueError(f"its {name} is not a number of at most {MOST_NUMBER}")
    return part


def list_jobs(runs_dir: Path | str) -> list[Job]:
    """All jobs of a runs folder, oldest first, without unreadable files."""
    jobs: list[Job] = []
    for path in sorted(jobs_folder(runs_dir).glob("*.json")):
        with contextlib.suppress(RunError):
            jobs.append(read_job(path))
    return jobs


def stop_job(job: Job) -> None:
    """Stop a job with SIGTERM: its running trainings write a checkpoint and end, the queued ones never start.

    Does nothing unless the stored process id is confirmed to be the holder of the job's lock; an id may have been reused.
    """
    pid = job.process.get("pid")
    if job.active and job.path is not None and isinstance(pid, int) and job.process.get("host") == socket.gethostname():
        process = holder(job.path.parent, pid, lock_name(job.id))
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)
