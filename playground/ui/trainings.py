"""Starting, stopping and resuming trainings. They run in processes of their own, which outlive the page."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from playground.runs.record import RunRecord
from playground.ui.files import FileCache

if TYPE_CHECKING:
    from playground.experiments.launcher import Job

_resumed: dict[str, float] = {}
"""When each run was asked to go on, by run id."""
PROJECT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that a resumed training is given to say that it runs."""


def jobs_folder(folder: Path) -> Path:
    """Where the files of a runs folder's jobs lie; the launcher's own function, which would load PyTorch."""
    return folder / ".jobs"


def _read_job(path: Path) -> "Job":
    from playground.experiments.launcher import read_job

    return read_job(path)


_jobs: "FileCache[Job]" = FileCache(_read_job)


def stored_jobs(folder: Path) -> "list[Job]":
    """All jobs of a runs folder, oldest first; unreadable files are left out."""
    jobs: list[Job] = []
    for path in sorted(jobs_folder(folder).glob("*.json")):
        with contextlib.suppress(ValueError, TypeError, KeyError, OSError):
            jobs.append(_jobs.get(path))
    return jobs


def stop_job(job: "Job") -> None:
    """Ask a job to stop: its running trainings write a checkpoint and end, the queued ones never start."""
    from playground.experiments import launcher

    launcher.stop_job(job)


def resume_run(folder: Path, run_id: str) -> None:
    """Go on with a run in a process of its own."""
    jobs_folder(folder).mkdir(parents=True, exist_ok=True)
    with (jobs_folder(folder) / f"resume-{run_id}.log").open("w") as log:
        subprocess.Popen(
            [sys.executable, "-m", "playground", "resume", run_id, "--runs-dir", str(folder.resolve()), "--json"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=PROJECT,
        )  # fmt: skip
    _resumed[run_id] = time.time()


def is_resuming(record: RunRecord) -> bool:
    """Whether the run was asked to go on a moment ago and has not said anything since."""
    asked = _resumed.get(record.run, 0.0)
    return record.updated < asked and time.time() - asked < PATIENCE


def can_stop(record: RunRecord) -> bool:
    """Whether the run's process is alive on this machine."""
    return record.status == "running" and record.host == socket.gethostname() and record.alive


def stop_run(record: RunRecord) -> None:
    """Ask one training to write a checkpoint and end."""
    if can_stop(record):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(record.pid, signal.SIGTERM)
