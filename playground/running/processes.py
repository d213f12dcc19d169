"""Trainings in separate processes, as many at a time as there are cores: `python -m playground train` for each.

Several one-thread trainings side by side are faster than one after another with all threads, and each stops and fails alone.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.commands import resume_line
from playground.config import RunConfig
from playground.running.children import Child, end_all
from playground.running.cores import cores, threads
from playground.running.reporter import Reporter
from playground.running.stopping import deferred
from playground.runs.errors import RunError
from playground.runs.reading import parse_line, position_problem
from playground.runs.record import RunRecord, parse_record
from playground.runs.store import Run
from playground.runs.writing import write_json

LOOK_EVERY = 0.2
"""Seconds between checks of the processes."""


@dataclass(kw_only=True)
class _Training:
    """One process, and the progress of its run that has been reported."""

    child: Child
    path: Path
    record: RunRecord | None = None
    """The record as last read; None before the run's folder exists."""
    read: int = 0
    """Bytes of metrics.jsonl read so far."""
    asked: bool = False
    """True once the process has been requested to stop."""


def train_in_processes(
    configs: Sequence[RunConfig],
    ids: Sequence[str],
    folder: Path,
    reporter: Reporter,
    should_stop: Callable[[], str],
    *,
    most: int | None = None,
) -> list[Run]:
    """Train each configuration in a separate process, and wait; returns the runs that began, in the order of `configs`.

    At most `most` run at a time, by default as many as there are cores for. With k trainings at a time on c cores each has
    c / k threads, unless its configuration sets a number. When `should_stop` returns a reason, or this process ends, all of
    them write a checkpoint and end.
    Raises RunError when a process fails before it has made its run; the others are stopped.
    """
    n_threads = [threads(config.train.threads, side_by_side=len(configs)) for config in configs]
    at_once = max(1, min(cores() // max(n_threads, default=1), most or len(configs)))
    waiting = list(range(len(configs)))
    going: dict[int, _Training] = {}
    begun: list[int] = []
    with tempfile.TemporaryDirectory(prefix="playground-") as scratch, deferred():
        try:
            while going or (waiting and not should_stop()):
                while waiting and len(going) < at_once and not should_stop():
                    place = waiting.pop(0)
                    going[place] = _start(configs[place], ids[place], folder, Path(scratch), n_threads[place])
                time.sleep(LOOK_EVERY)
                reason = should_stop()
                for place, training in list(going.items()):
                    if reason:
                        training.asked = True
                        training.child.stop(reason)
                    # Asked before the folder is read: if it has ended, the folder is complete.
                    ended = training.child.ended
                    _tell(training, reporter, ended=ended)
                    if ended:
                        del going[place]
                        begun += [place] if training.record is not None else []
        except BaseException as error:
            by_hand = isinstance(error, KeyboardInterrupt)
            reason = "stopped by Ctrl-C" if by_hand else "stopped because another training failed"
            end_all([training.child for training in going.values()], reason)
            raise
    return [Run(folder / ids[place]) for place in sorted(begun)]


def _start(config: RunConfig, run_id: str, folder: Path, scratch: Path, n_threads: int) -> _Training:
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, threads=n_threads))
    path = scratch / f"{run_id}.json"
    write_json(path, config.to_dict())
    child = Child(["--config", str(path), "--run-id", run_id], folder, scratch / f"{run_id}.log")
    return _Training(child=child, path=folder / run_id)


def _tell(training: _Training, reporter: Reporter, *, ended: bool) -> None:
    """Report new contents of the run's folder. Raises RunError for a process that failed before the folder existed."""
    known = training.record
    with contextlib.suppress(RunError):  # not there yet
        training.record = parse_record(training.path / "run.json")
    record = training.record
    if record is None:
        if ended and not training.asked:
            raise RunError(training.child.problem)
        return
    if known is None:
        reporter.started(record)
    for row in _new_rows(training):
        reporter.row(row, record)
    if ended:
        reporter.ended(_ending(training, record))


def _new_rows(training: _Training) -> Iterator[dict[str, Any]]:
    """The rows of the run that have not been read yet; an unfinished last line is left for the next call."""
    try:
        with (training.path / "metrics.jsonl").open("rb") as file:
            file.seek(training.read)
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return
    for line in lines:
        if line.endswith(b"\n"):
            training.read += len(line)
            row, _ = parse_line(line, position_problem)
            if row is not None:
                yield row


def _ending(training: _Training, record: RunRecord) -> RunRecord:
    """The final record of a run whose process has ended; status `running` means that the process was killed."""
    if record.status != "running":
        return record
    reason = f"{training.child.problem}; go on with: {resume_line(training.path)}"
    return dataclasses.replace(record, status="interrupted", reason=reason)
