"""The scheduler: trains the entries of a job in child processes, `python -m playground train`, and keeps its file up to date.

The command line, `train_many` and the process of a job started from a page (playground/running/worker.py) train through it.
Several one-thread trainings side by side are faster than one after another with all threads, and each stops and fails alone.
"""

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from playground.commands import resume_line
from playground.config import RunConfig
from playground.running.children import STOPPED, Child, end_all
from playground.running.cores import cores, threads
from playground.running.jobs import EntryStatus, Job, Starter, config_file, lock_name, log_file, new_job
from playground.running.reporter import Reporter
from playground.running.stopping import deferred
from playground.runs.errors import RunError
from playground.runs.reading import parse_line, position_problem
from playground.runs.record import RunRecord, parse_record

LOOK_EVERY = 0.2
"""Seconds between checks of the processes."""
REFUSED = 2
"""Exit status for bad input, before any training has begun."""


@dataclass(kw_only=True)
class _Followed:
    """A run in training, and the progress of it that has been reported."""

    path: Path
    record: RunRecord | None = None
    """The record as last read; None before the run's folder exists."""
    read: int = 0
    """Bytes of metrics.jsonl read so far."""


@dataclass(kw_only=True)
class _Part:
    """The child that trains some entries of the job, and their runs."""

    child: Child
    runs: dict[int, _Followed]
    """By place in the job."""
    asked: bool = False
    """True once the child has been requested to stop."""


class Scheduler:
    """Trains the queued entries of one job, whose lock this process holds. A context, after which no entry is queued.

    `runs_dir` is the folder of the runs, as messages are to name it. With a reporter, progress is read from the runs' folders
    and reported, and a training that fails before it has made its run ends all.
    """

    def __init__(self, job: Job, runs_dir: Path, reporter: Reporter | None = None) -> None:
        process = {"pid": os.getpid(), "host": socket.gethostname()}
        self.job = dataclasses.replace(job, process=process)
        self.runs_dir, self.reporter = runs_dir, reporter
        self.running: list[_Part] = []
        self.begun: set[str] = set()
        """Ids of the runs that have been reported."""

    def __enter__(self) -> "Scheduler":
        self.job.write()
        return self

    def __exit__(self, *_error: object) -> None:
        if left := self._queued():
            self.job = self.job.changed(left, status="stopped")
            for place in left:
                config_file(self.job, self.job.entries[place].run).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty: something failed
            config_file(self.job, "any").parent.rmdir()

    def work(self, should_stop: Callable[[], str]) -> None:
        """Train until all entries have ended. When `should_stop` returns a reason, or an error is raised, the children write
        checkpoints and end, and the queued entries never start.

        Raises RunError, if there is a reporter, when a training fails before it has made its run; the others are stopped.
        """
        with deferred():
            try:
                while self.running or (self._queued() and not should_stop()):
                    while len(self.running) < self.job.parallel and self._queued() and not should_stop():
                        self._start(self._next())
                    time.sleep(LOOK_EVERY)
                    self._look(should_stop())
            except BaseException as error:
                by_hand = isinstance(error, KeyboardInterrupt)
                reason = "stopped by Ctrl-C" if by_hand else "stopped because another training failed"
                end_all([part.child for part in self.running], reason)
                for part in list(self.running):
                    self._end(part)
                raise

    def _queued(self) -> list[int]:
        return [place for place, entry in enumerate(self.job.entries) if entry.status == "queued"]

    def _next(self) -> list[int]:
        """Places of the entries of the next part."""
        queued = self._queued()
        return [place for place in queued if self.job.entries[place].part == self.job.entries[queued[0]].part]

    def _start(self, places: list[int]) -> None:
        entries = [self.job.entries[place] for place in places]
        first = entries[0].run
        options = ["--config", str(config_file(self.job, first)), "--run-id", ",".join(entry.run for entry in entries)]
        if len(entries) > 1:
            options += ["--seeds", ",".join(str(entry.seed) for entry in entries)]
        log = log_file(self.job, first)
        if entries[0].resumes:
            child = Child([str((self.runs_dir / first).resolve())], self.runs_dir, log, "resume")
        else:
            child = Child(options, self.runs_dir, log)
        runs = {place: _Followed(path=self.runs_dir / self.job.entries[place].run) for place in places}
        self.running.append(_Part(child=child, runs=runs))
        self.job = self.job.changed(places, status="running", pid=child.process.pid)

    def _look(self, reason: str) -> None:
        for part in list(self.running):
            if reason:
                part.asked = True
                part.child.stop(reason)
            # Asked before the folder is read: if it has ended, the folder is complete.
            ended = part.child.ended
            if ended:
                self._end(part)
            if self.reporter is not None:
                for run in part.runs.values():
                    _report(run, part, self.reporter, ended=ended)
                    self.begun |= {run.path.name} if run.record is not None else set()

    def _end(self, part: _Part) -> None:
        """Store how the entries of an ended child have ended."""
        self.running.remove(part)
        outcomes = [self._outcome(run.path, part.child, alone=len(part.runs) == 1) for run in part.runs.values()]
        for outcome in dict.fromkeys(outcomes):
            status, reason = outcome
            alike = [place for place, other in zip(part.runs, outcomes, strict=True) if other == outcome]
            self.job = self.job.changed(alike, status=status, message=reason if status == "failed" else "")
        if all(status != "failed" for status, _ in outcomes):
            part.child.log.unlink(missing_ok=True)
            part.child.log.with_suffix(".json").unlink(missing_ok=True)

    def _outcome(self, path: Path, child: Child, *, alone: bool) -> tuple[EntryStatus, str]:
        """Status and reason of an ended training, from the exit status, or from run.json where that is ambiguous."""
        status = child.process.returncode
        if status == 0 and alone:
            return "finished", ""
        if status in STOPPED or (not alone and status != REFUSED):
            with contextlib.suppress(RunError):
                record = parse_record(path / "run.json")
                if record.status in ("finished", "stopped", "failed"):
                    return record.status, record.reason
        return ("stopped", "") if status in STOPPED else ("failed", child.problem)


@contextlib.contextmanager
def scheduled(
    configs: Sequence[RunConfig], ids: Sequence[str], runs_dir: Path, reporter: Reporter, *, by: Starter, most: int
) -> Iterator[Scheduler]:
    """A new job of this process, not begun, which trains each configuration in a process under its id.

    At most `most` are trained at a time, and no more than there are cores for. With k trainings at a time on c cores each has
    c / k threads, unless its configuration sets a number.
    """
    n_threads = [threads(config.train.threads, side_by_side=len(configs)) for config in configs]
    configs = [
        dataclasses.replace(config, train=dataclasses.replace(config.train, threads=number))
        for config, number in zip(configs, n_threads, strict=True)
    ]
    parallel = max(1, min(cores() // max(n_threads), most))
    job = new_job(configs, ids, runs_dir, by=by, parallel=parallel)
    assert job.path is not None
    with FileLock(job.path.with_name(lock_name(job.id))), Scheduler(job, runs_dir, reporter) as scheduler:
        yield scheduler


def _report(run: _Followed, part: _Part, reporter: Reporter, *, ended: bool) -> None:
    """Report new contents of a run's folder. Raises RunError for a training that failed before the folder existed."""
    known = run.record
    with contextlib.suppress(RunError):  # not there yet
        run.record = parse_record(run.path / "run.json")
    record = run.record
    if record is None:
        if ended and not part.asked:
            raise RunError(part.child.problem)
        return
    if known is None:
        reporter.started(record)
    for row in _new_rows(run):
        reporter.row(row, record)
    if ended:
        reporter.ended(_ending(run, part, record))


def _new_rows(run: _Followed) -> Iterator[dict[str, Any]]:
    """The rows of the run that have not been read yet; an unfinished last line is left for the next call."""
    try:
        with (run.path / "metrics.jsonl").open("rb") as file:
            file.seek(run.read)
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return
    for line in lines:
        if line.endswith(b"\n"):
            run.read += len(line)
            row, _ = parse_line(line, position_problem)
            if row is not None:
                yield row


def _ending(run: _Followed, part: _Part, record: RunRecord) -> RunRecord:
    """The final record of a run whose process has ended; status `running` means that the process was killed."""
    if record.status != "running":
        return record
    reason = f"{part.child.problem}; go on with: {resume_line(run.path)}"
    return dataclasses.replace(record, status="interrupted", reason=reason)
