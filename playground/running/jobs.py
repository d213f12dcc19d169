"""Jobs: trainings that are scheduled together, whose state is files that every page and process can read.

A job is one file, `<runs_dir>/.jobs/<id>.json`, replaced atomically at every change: what waits, runs, has ended or failed, and
in which processes. The folder `<id>` next to it holds the configuration and the messages of each training until it has
ended well. The process that schedules the job (playground/running/scheduler.py) holds the lock `<id>.lock` from the job's
first moment to its end, even if it is killed.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
from beartype.door import is_bearable
from filelock import FileLock

from playground.config import RunConfig, check_name
from playground.config.checks import strict
from playground.running.children import PROJECT
from playground.running.cores import cores, threads
from playground.runs.errors import Damaged, RunError
from playground.runs.lock import holder, is_locked
from playground.runs.reading import MOST_NUMBER, is_number, is_text, read_json
from playground.runs.writing import write_json

EntryStatus = Literal["queued", "running", "finished", "stopped", "failed"]
Starter = Literal["app", "command line", "Python"]
"""What started a job."""
STARTING = ".starting.lock"
MOST_ENTRIES = 10_000
"""Most trainings of one job."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One training of a job."""

    run: str
    """Id of the future run; its folder appears when the training starts."""
    task: str
    n_future: int
    control: str
    seed: int
    steps: int
    part: int
    """Trainings of one part share a process: on a GPU the seeds of equal settings, side by side."""
    status: EntryStatus = "queued"
    message: str = ""
    """Why the training failed."""
    pid: int = 0
    """Id of the process that trains it or has trained it; 0 before it has started."""
    resumes: bool = False
    """True if the run is there, and its training goes on from its last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contents of a job file."""

    id: str
    created: float
    by: Starter
    parallel: int
    """Most processes at a time."""
    entries: tuple[Entry, ...] = ()
    process: dict[str, Any] = field(default_factory=dict)
    """`pid` and `host` of the process that schedules the job; empty until it has started."""

    path: Path | None = None
    """Path of the job's file; not stored in it."""

    @property
    def active(self) -> bool:
        """True if trainings are queued or running and the job's process is alive, that is, its lock is held."""
        left = any(entry.status in ("queued", "running") for entry in self.entries)
        return left and self.path is not None and is_locked(self.path.parent, lock_name(self.id))

    @property
    def can_stop(self) -> bool:
        """True if `stop_job` can stop the job as a whole. One of a notebook it cannot: the signal would end the notebook."""
        return bool(self.process) and self.by != "Python" and self.active

    def write(self) -> None:
        """Replace the job's file."""
        assert self.path is not None
        values = dataclasses.asdict(self)
        del values["path"]
        write_json(self.path, values)

    def changed(self, places: Collection[int], **changes: Any) -> "Job":
        """The job with these changes of the entries at `places`, written to its file."""
        entries = list(self.entries)
        for place in places:
            entries[place] = dataclasses.replace(entries[place], **changes)
        job = dataclasses.replace(self, entries=tuple(entries))
        job.write()
        return job


def jobs_folder(runs_dir: Path | str) -> Path:
    """The folder of the job files of a runs folder."""
    return Path(runs_dir) / ".jobs"


def lock_name(job_id: str) -> str:
    """Name of the lock file of a job."""
    return f"{job_id}.lock"


def config_file(job: Job, run: str) -> Path:
    """Path of the configuration of the part whose first run is `run`."""
    assert job.path is not None
    return job.path.with_suffix("") / f"{run}.json"


def log_file(job: Job, run: str) -> Path:
    """Path of the messages of the part whose first run is `run`."""
    return config_file(job, run).with_suffix(".log")


# --- new jobs -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def choosing_ids(runs_dir: Path) -> Iterator[set[str]]:
    """Hold the lock under which ids of future runs are chosen; yields the ids that active jobs have planned already.

    Two jobs that start at once therefore choose different ids, although their runs have no folders yet.
    """
    folder = jobs_folder(runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / STARTING):
        yield {entry.run for job in list_jobs(runs_dir) if job.active for entry in job.entries}


def choose_ids(configs: Sequence[RunConfig], runs_dir: Path, planned: Collection[str]) -> list[str]:
    """An id for the future run of each configuration, which no run has and which is not `planned`."""
    from playground.running.runner import new_run_id

    ids: dict[str, None] = {}  # in order
    for config in configs:
        ids[new_run_id(config, runs_dir, {*planned, *ids})] = None
    return list(ids)


def new_job(
    configs: Sequence[RunConfig],
    ids: Sequence[str],
    runs_dir: Path,
    *,
    by: Starter,
    parallel: int,
    stacked: bool = False,
    resumed: Collection[str] = (),
) -> Job:
    """A job that trains each configuration under its id. Its configurations are written, its own file is not.

    `stacked`: configurations that differ in nothing but the seed share a process. `resumed`: ids of stored runs, each of which
    goes on from its last checkpoint in a process of its own.
    """
    name = time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
    path = (jobs_folder(runs_dir) / f"{name}.json").resolve()
    job = Job(id=name, created=time.time(), by=by, parallel=parallel, path=path)
    path.with_suffix("").mkdir(parents=True)
    parts: dict[str, int] = {}
    entries: list[Entry] = []
    for config, run in zip(configs, ids, strict=True):
        shares = stacked and run not in resumed
        alike = json.dumps(dataclasses.replace(config, seed=0).to_dict(), sort_keys=True) if shares else run
        if alike not in parts:
            parts[alike] = len(parts)
            config_file(job, run).write_text(json.dumps(config.to_dict(), indent=1))
        known = {"task": config.task.name, "n_future": config.model.n_future, "control": config.model.control}
        resumes = run in resumed
        entries.append(
            Entry(run=run, seed=config.seed, steps=config.train.steps, part=parts[alike], resumes=resumes, **known)
        )
    return dataclasses.replace(job, entries=tuple(entries))


def start_job(
    runs_dir: Path | str, configs: Sequence[RunConfig], *, parallel: int | None = None, by: Starter = "Python"
) -> Job:
    """Train each configuration, started in this order, by a process that outlives this one; returns at once.

    At most `parallel` processes run at a time, by default as many as there are cores, and 1 for `-gpu` presets; on the CPU no
    more than fit into memory. They share the cores, unless a configuration sets its threads. On a GPU, configurations that
    differ in nothing but the seed share a process.
    Raises ValueError for too many trainings, before anything starts.
    """
    configs, parallel, stacked = arranged(configs, parallel)
    folder = Path(runs_dir)
    with choosing_ids(folder) as planned:
        ids = choose_ids(configs, folder, planned)
        job = new_job(configs, ids, folder, by=by, parallel=parallel, stacked=stacked)
        _start_worker(job)
    return job


def arranged(configs: Sequence[RunConfig], parallel: int | None = None) -> tuple[list[RunConfig], int, bool]:
    """How trainings share this machine: the configurations with their threads and whole paths, the most processes at a time,
    and whether configurations that differ in nothing but the seed share a process (on a GPU).

    `parallel` as in `start_job`. Raises ValueError for too many trainings.
    """
    from playground.running.environment import pick_device
    from playground.running.fitting import fitting_processes
    from playground.running.runner import with_whole_path

    wanted = len(configs)
    if wanted > MOST_ENTRIES:
        raise ValueError(f"{wanted:,} trainings are too many for one job; choose at most {MOST_ENTRIES:,}")
    large = any((config.preset or "").endswith("-gpu") for config in configs)
    parallel = min(wanted, parallel or (1 if large else cores()))
    if all(pick_device(config.train.device).type == "cpu" for config in configs):
        parallel = min(parallel, fitting_processes(configs))
    each = threads(None, side_by_side=max(1, parallel))
    configs = [
        dataclasses.replace(
            config,
            task=with_whole_path(config.task),
            train=dataclasses.replace(config.train, threads=config.train.threads or each),
        )
        for config in configs
    ]
    return configs, parallel, all(pick_device(config.train.device).type == "cuda" for config in configs)


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
        shutil.rmtree(job.path.with_suffix(""), ignore_errors=True)
        raise
    finally:
        os.close(lock)


# --- stored jobs --------------------------------------------------------------------------------------------------------


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

    Does nothing for a job of a notebook (`can_stop`), and unless the stored process id is confirmed to be the holder of the
    job's lock; an id may have been reused.
    """
    pid = job.process.get("pid")
    if (
        job.can_stop
        and job.path is not None
        and isinstance(pid, int)
        and job.process.get("host") == socket.gethostname()
    ):
        process = holder(job.path.parent, pid, lock_name(job.id))
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)
