"""Starts, stops and resumes trainings. They run in processes of their own, which outlive the page."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from playground.running import jobs
from playground.running.children import PROJECT
from playground.running.jobs import Job, jobs_folder, read_job
from playground.runs.cached import FileCache
from playground.runs.lock import holder
from playground.runs.store import Run

_resumed: "dict[Path, tuple[subprocess.Popen[bytes], float]]" = {}
"""By run folder: the process that resumes the run, and the time of the run's record before it started."""


_jobs = FileCache()


def stored_jobs(folder: Path) -> list[Job]:
    """All jobs of a runs folder, oldest first; unreadable files are skipped."""
    found: list[Job] = []
    for path in sorted(jobs_folder(folder).glob("*.json")):
        with contextlib.suppress(ValueError, OSError):
            found.append(_jobs.get(path, read_job))
    return found


def stop_job(job: Job) -> None:
    """Request a job to stop: its running trainings write a checkpoint and end, the queued ones never start."""
    jobs.stop_job(job)


def resume_run(run: Run) -> None:
    """Resume a run in a process of its own."""
    path, log = run.path.resolve(), _resume_log(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "playground", "resume", str(path), "--runs-dir", str(path.parent), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd=PROJECT,
        )
    _resumed[run.path.absolute()] = process, run.record.updated


def is_resuming(run: Run) -> bool:
    """Whether the run was resumed, and its new process is alive and has written nothing yet."""
    process, before = _resumed.get(run.path.absolute(), (None, 0.0))
    return process is not None and process.poll() is None and run.record.updated == before


def resume_problem(run: Run) -> str:
    """The reason for which a run was not resumed: the last line of its process's messages; empty if it was."""
    process, before = _resumed.get(run.path.absolute(), (None, 0.0))
    if process is None or not process.poll() or run.record.updated != before:
        return ""
    from playground.running.children import last_line

    return last_line(_resume_log(run)) or f"its process ended with status {process.poll()}"


def can_stop(run: Run) -> bool:
    """Whether the run is trained by a process of this machine that is identified with certainty."""
    return _trainer(run) is not None


def stop_run(run: Run) -> None:
    """Request one training to write a checkpoint and end."""
    process = _trainer(run)
    if process is not None:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)


def _trainer(run: Run) -> psutil.Process | None:
    record = run.record
    here = record.status == "running" and record.host == socket.gethostname()
    return holder(run.path, record.pid) if here else None


def _resume_log(run: Run) -> Path:
    return jobs_folder(run.path.parent) / f"resume-{run.id}.log"
