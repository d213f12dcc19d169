"""Trainings in processes of their own, as many at a time as there are cores: `python -m playground train` for each.

Several one-thread trainings side by side are faster than one after another with all threads, and stop and fail by themselves.
"""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from playground.config import RunConfig
from playground.experiments.cores import cores, threads
from playground.experiments.reporter import Reporter
from playground.runs.record import RunRecord, parse_record, read_lines, write_json
from playground.runs.store import Run, RunError

LOOK_EVERY = 0.2
"""Seconds between looks at the processes."""


@dataclass(kw_only=True)
class _Training:
    """One process, and what has been told of its run."""

    process: subprocess.Popen[bytes]
    path: Path
    log: Path
    told: int = -1
    """Rows that were told; -1 before the start was."""
    record: RunRecord | None = None


def train_in_processes(
    configs: Sequence[RunConfig], ids: Sequence[str], folder: Path, reporter: Reporter, should_stop: Callable[[], str]
) -> list[Run]:
    """Train each configuration in a process of its own, and wait; the runs of those that began, in order.

    Threads are shared out: with k trainings at a time on c cores each has c / k, unless its configuration says how many. A
    reason to stop reaches all of them; they write a checkpoint and end. Raises RunError when a process ends without having
    made its run.
    """
    n_threads = [threads(config.train.threads, side_by_side=len(configs)) for config in configs]
    at_once = max(1, cores() // max(n_threads, default=1))
    waiting = list(range(len(configs)))
    going: dict[int, _Training] = {}
    begun: list[int] = []
    with tempfile.TemporaryDirectory(prefix="playground-") as scratch:
        try:
            while going or (waiting and not should_stop()):
                while waiting and len(going) < at_once and not should_stop():
                    place = waiting.pop(0)
                    going[place] = _start(configs[place], ids[place], folder, Path(scratch), n_threads[place])
                    begun.append(place)
                if reason := should_stop():
                    _ask_to_stop(going, reason)
                    waiting = []
                time.sleep(LOOK_EVERY)
                for place, training in list(going.items()):
                    ended = training.process.poll() is not None
                    _tell(training, reporter, ended=ended)
                    if ended:
                        del going[place]
        finally:
            for training in going.values():
                training.process.terminate()
    return [Run(folder / ids[place]) for place in sorted(begun)]


def _start(config: RunConfig, run_id: str, folder: Path, scratch: Path, n_threads: int) -> _Training:
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, threads=n_threads))
    path, log = scratch / f"{run_id}.json", scratch / f"{run_id}.log"
    write_json(path, config.to_dict())
    command = [sys.executable, "-m", "playground", "train", "--config", str(path), "--run-id", run_id,
               "--runs-dir", str(folder.resolve()), "--json"]  # fmt: skip
    with log.open("w") as file:  # in a session of its own: Ctrl-C reaches this process, which asks the others to stop
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    return _Training(process=process, path=folder / run_id, log=log)


def _ask_to_stop(going: dict[int, _Training], reason: str) -> None:
    """Once: a training that is asked a second time does not wait for its checkpoint."""
    number = signal.SIGINT if "Ctrl-C" in reason else signal.SIGTERM
    for training in going.values():
        training.process.send_signal(number)
    for training in going.values():
        training.process.wait()


def _tell(training: _Training, reporter: Reporter, *, ended: bool) -> None:
    """Pass on what the run's folder says."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not there yet
        training.record = parse_record(training.path / "run.json")
    record = training.record
    if record is None:
        if ended:
            lines = training.log.read_text(errors="replace").strip().splitlines()
            raise RunError(lines[-1] if lines else f"the training of {training.path.name} ended before it began")
        return
    if training.told < 0:
        training.told = 0
        reporter.started(record)
    rows = read_lines(training.path / "metrics.jsonl")
    for row in rows[training.told :]:
        reporter.row(row, record)
    training.told = len(rows)
    if ended:
        reporter.ended(record)
