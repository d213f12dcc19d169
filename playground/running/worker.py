"""The process of a job: `python -m playground.running.worker FILE` trains its entries and updates its file.

Each entry is trained by a child process, `parallel` at a time; on a GPU one child trains all seeds of an n. SIGTERM, SIGINT
and SIGHUP stop the children after a checkpoint. If this process is killed, the children stop too (children.py).
"""

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from playground.running.children import STOPPED, Child
from playground.running.launcher import Entry, EntryStatus, read_job
from playground.running.stopping import NAMES
from playground.runs.errors import RunError
from playground.runs.record import parse_record

LOOK_EVERY = 0.1
"""Seconds between checks of the children."""
REFUSED = 2
"""Exit status for bad input, before any training has begun."""


class Worker:
    """Trains the entries of one job file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job = dataclasses.replace(read_job(path), process={"pid": os.getpid(), "host": socket.gethostname()})
        self.running: dict[tuple[int, ...], Child] = {}
        """Running children, by the indices of the entries that they train."""
        self.stopping = ""

    def work(self) -> None:
        """Train the queued entries; returns when all have ended, or after a signal."""
        for number in NAMES:
            signal.signal(number, self._stop)
        self.job.write()
        while self.running or (not self.stopping and self._queued()):
            while not self.stopping and self._queued() and len(self.running) < self.job.parallel:
                self._start(self._next())
            time.sleep(LOOK_EVERY)
            for group, child in list(self.running.items()):
                if self.stopping:
                    child.stop(self.stopping)
                if child.ended:
                    self._end(group)
        for index in self._queued():
            self._update(index, status="stopped")

    def _queued(self) -> list[int]:
        return [index for index, entry in enumerate(self.job.entries) if entry.status == "queued"]

    def _next(self) -> tuple[int, ...]:
        """Indices of the entries for the next child: one, or all seeds of its n."""
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
        seeds = ",".join(str(one.seed) for one in entries)
        options = [
            "--preset",
            entry.preset,
            "--n-future",
            str(entry.n_future),
            "--control",
            entry.control,
            "--objective",
            entry.objective,
            "--seed" if len(group) == 1 else "--seeds",
            seeds,
            "--steps",
            str(entry.steps),
            "--threads",
            str(self.job.threads),
            "--device",
            self.job.device,
            "--run-id",
            ",".join(one.run for one in entries),
        ]
        self.running[group] = Child(options, self.path.parents[1], self._log_of(entry))
        for index in group:
            self._update(index, status="running")

    def _end(self, group: tuple[int, ...]) -> None:
        child = self.running.pop(group)
        for index in group:
            status, reason = self._outcome(index, child, alone=len(group) == 1)
            self._update(index, status=status, message=reason if status == "failed" else "")

    def _outcome(self, index: int, child: Child, *, alone: bool) -> tuple[EntryStatus, str]:
        """Status and reason of an ended training, from the exit status, or from run.json where that is ambiguous."""
        status = child.process.returncode
        if status == 0 and alone:
            return "finished", ""
        if status in STOPPED or (not alone and status != REFUSED):
            with contextlib.suppress(RunError):
                record = parse_record(self.path.parents[1] / self.job.entries[index].run / "run.json")
                if record.status in ("finished", "stopped", "failed"):
                    return record.status, record.reason
        return ("stopped", "") if status in STOPPED else ("failed", child.problem)

    def _log_of(self, entry: Entry) -> Path:
        """Path of a training's log."""
        return self.path.with_name(f"{entry.run}.log")

    def _stop(self, number: int, _frame: object) -> None:
        self.stopping = f"stopped by {NAMES[number]}"

    def _update(self, index: int, **changes: Any) -> None:
        entries = list(self.job.entries)
        entries[index] = dataclasses.replace(entries[index], **changes)
        self.job = dataclasses.replace(self.job, entries=tuple(entries))
        self.job.write()


if __name__ == "__main__":
    Worker(Path(sys.argv[1])).work()
