"""Several trainings, started from a page or a notebook, in a process of their own that outlives its starter.

A job is a list of trainings and one file, `<runs_dir>/.jobs/<id>.json`, replaced in one step whenever something changes.
Its process starts `python -m playground train` for each entry, `parallel` at a time, or on a GPU for all seeds of an n at once.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playground.config import Control
from playground.experiments.cores import cores, threads
from playground.runs.record import is_alive, parse_record, this_process, write_json

EntryStatus = Literal["queued", "running", "finished", "stopped", "failed"]
ENDED: dict[int, EntryStatus] = {
    0: "finished", 130: "stopped", 143: "stopped", -signal.SIGINT: "stopped", -signal.SIGTERM: "stopped",
}  # fmt: skip
"""What exit statuses mean; the negative ones are of a training stopped while it was still loading."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One training of a job."""

    preset: str
    n_future: int
    control: str
    seed: int
    steps: int
    run: str
    """Id that the run will have; its folder appears when the training starts."""
    status: EntryStatus = "queued"
    message: str = ""
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job file holds."""

    id: str
    created: float
    parallel: int
    threads: int
    """CPU threads of each training."""
    device: str = "auto"
    stacked: bool = False
    """Whether the seeds of one n share a process, side by side on a GPU."""
    entries: tuple[Entry, ...] = ()
    process: dict[str, Any] = field(default_factory=dict)
    """Process that works on the job: pid, pid_started, host."""

    @property
    def active(self) -> bool:
        """Whether its process is alive and something is left to do."""
        if not any(entry.status in ("queued", "running") for entry in self.entries):
            return False
        if not self.process:
            return time.time() - self.created < 30
        return is_alive(self.process["pid"], self.process["pid_started"])


def jobs_folder(runs_dir: Path | str) -> Path:
    """Where the job files of a runs folder lie."""
    return Path(runs_dir) / ".jobs"


def start_job(
    runs_dir: Path | str,
    preset: str,
    *,
    n_futures: list[int],
    seeds: list[int],
    control: Control | None = None,
    steps: int | None = None,
    parallel: int | None = None,
    device: str = "auto",
) -> Job:
    """Start training every combination of n and seed; returns at once.

    `parallel` defaults to the number of CPU cores for `-cpu` presets (one thread each: many small trainings side by side
    are faster than one after another) and to 1 for `-gpu` presets.
    Raises ValueError for an unknown preset or an impossible combination, before anything starts.
    """
    from playground.experiments.environment import pick_device
    from playground.experiments.presets import make_config
    from playground.experiments.runner import new_run_id

    folder = jobs_folder(runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = len(n_futures) * len(seeds)
    parallel = min(wanted, parallel or (1 if preset.endswith("-gpu") else cores()))
    each = threads(None, side_by_side=max(1, parallel))
    entries: list[Entry] = []
    for seed in seeds:
        for n_future in n_futures:
            config = make_config(
                preset,
                n_future=n_future,
                control=control,
                seed=seed,
                steps=steps,
                threads=each,
            )
            taken = {entry.run for entry in entries}
            entries.append(
                Entry(preset=preset, n_future=n_future, control=config.model.control, seed=seed,
                      steps=config.train.steps, run=new_run_id(config, Path(runs_dir), taken))
            )  # fmt: skip
    job_id = time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
    stacked = pick_device(device).type == "cuda"
    job = Job(id=job_id, created=time.time(), parallel=parallel, threads=each, device=device, stacked=stacked,
              entries=tuple(entries))  # fmt: skip
    write_json(folder / f"{job.id}.json", dataclasses.asdict(job))
    path = (folder / f"{job.id}.json").resolve()
    with path.with_suffix(".log").open("w") as log:
        subprocess.Popen(
            [sys.executable, "-m", "playground.experiments.launcher", str(path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    return job


def read_job(path: Path) -> Job:
    """Read a job file."""
    values = json.loads(path.read_text())
    values["entries"] = tuple(Entry(**entry) for entry in values["entries"])
    return Job(**values)


def list_jobs(runs_dir: Path | str) -> list[Job]:
    """All jobs of a runs folder, oldest first; unreadable files are left out."""
    jobs: list[Job] = []
    for path in sorted(jobs_folder(runs_dir).glob("*.json")):
        with contextlib.suppress(ValueError, TypeError, KeyError, OSError):
            jobs.append(read_job(path))
    return jobs


def stop_job(job: Job) -> None:
    """Ask a job to stop: its running trainings write a checkpoint and end, the queued ones never start."""
    if job.active and job.process:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.process["pid"], signal.SIGTERM)


class _Worker:
    """Works through one job file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job = dataclasses.replace(read_job(path), process=this_process())
        self.running: dict[tuple[int, ...], subprocess.Popen[bytes]] = {}
        """Processes, and which entries each trains."""
        self.stopping = False

    def work(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._write()
        asked = False
        while self.running or (not self.stopping and self._queued()):
            while not self.stopping and self._queued() and len(self.running) < self.job.parallel:
                self._start(self._next())
            if self.stopping and not asked:
                # Once: a training that is asked a second time does not wait for its checkpoint.
                asked = True
                for process in self.running.values():
                    process.terminate()
            time.sleep(0.1)
            for group in [group for group, process in self.running.items() if process.poll() is not None]:
                self._end(group)
        for index in self._queued():
            self._update(index, status="stopped")

    def _queued(self) -> list[int]:
        return [index for index, entry in enumerate(self.job.entries) if entry.status == "queued"]

    def _next(self) -> tuple[int, ...]:
        """The entries that the next process trains: one, or all seeds of its n."""
        queued = self._queued()
        if not self.job.stacked:
            return (queued[0],)
        first = self.job.entries[queued[0]]
        return tuple(
            index
            for index in queued
            if dataclasses.replace(self.job.entries[index], seed=first.seed, run=first.run) == first
        )

    def _start(self, group: tuple[int, ...]) -> None:
        entry, entries = self.job.entries[group[0]], [self.job.entries[index] for index in group]
        seeds = (
            ["--seed", str(entry.seed)] if len(group) == 1 else ["--seeds", ",".join(str(one.seed) for one in entries)]
        )
        command = [
            sys.executable, "-m", "playground", "train", "--preset", entry.preset, "--n-future", str(entry.n_future),
            "--control", entry.control, *seeds, "--steps", str(entry.steps),
            "--threads", str(self.job.threads), "--device", self.job.device, "--run-id", ",".join(one.run for one in entries),
            "--runs-dir", str(self.path.parents[1].resolve()), "--json",
        ]  # fmt: skip
        with self._log_of(entry).open("w") as log:
            self.running[group] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
        for index in group:
            self._update(index, status="running")

    def _end(self, group: tuple[int, ...]) -> None:
        process = self.running.pop(group)
        errors = self._log_of(self.job.entries[group[0]]).read_text(errors="replace")
        for index in group:
            status, reason = ENDED.get(process.returncode, "failed"), ""
            if len(group) > 1:  # the exit status tells of all of them
                status, reason = self._stored(index, status)
            if status == "failed" and not reason:
                reason = (errors.strip().splitlines() or [_how_it_ended(process.returncode)])[-1]
            self._update(index, status=status, message=reason if status == "failed" else "")

    def _stored(self, index: int, otherwise: EntryStatus) -> tuple[EntryStatus, str]:
        """How a run ended by what its folder says."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = parse_record(self.path.parents[1] / self.job.entries[index].run / "run.json")
            if record.status in ("finished", "stopped", "failed"):
                return record.status, record.reason
        return otherwise, ""

    def _log_of(self, entry: Entry) -> Path:
        """Where a training's messages go; a pipe would hold up one that warns a lot."""
        return self.path.with_name(f"{entry.run}.log")

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _update(self, index: int, **changes: Any) -> None:
        entries = list(self.job.entries)
        entries[index] = dataclasses.replace(entries[index], **changes)
        self.job = dataclasses.replace(self.job, entries=tuple(entries))
        self._write()

    def _write(self) -> None:
        write_json(self.path, dataclasses.asdict(self.job))


def _how_it_ended(status: int) -> str:
    return f"its process ended with status {status}" if status > 0 else f"its process was killed by signal {-status}"


if __name__ == "__main__":
    _Worker(Path(sys.argv[1])).work()
