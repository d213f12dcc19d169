"""The process of a job: `python -m playground.running.worker FILE` trains its entries and updates its file.

It inherits the job's lock from `start_job`. SIGTERM, SIGINT and SIGHUP stop the trainings after a checkpoint. If this process
is killed, they stop too (children.py).
"""

import signal
import sys
from pathlib import Path

from playground.running.jobs import read_job
from playground.running.scheduler import Scheduler
from playground.running.stopping import NAMES


def work(path: Path) -> None:
    """Train the queued entries of a job file; returns when all have ended, or after a signal."""
    reasons: list[str] = []
    for number in NAMES:
        signal.signal(number, lambda number, _frame: reasons.append(f"stopped by {NAMES[number]}"))
    with Scheduler(read_job(path), path.parents[1]) as scheduler:
        scheduler.work(lambda: reasons[0] if reasons else "")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
