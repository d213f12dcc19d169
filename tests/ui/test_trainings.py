"""Starting, stopping and resuming trainings, with processes that only wait in the place of those that train."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.experiments import launcher
from playground.ui import trainings
from playground.ui.files import StoredRun, read_store
from playground.ui.trainings import (
    PROJECT,
    can_stop,
    is_resuming,
    jobs_folder,
    resume_run,
    stop_job,
    stop_run,
    stored_jobs,
)
from tests.conftest import ROOT
from tests.fake_runs import write_run
from tests.ui.support import Training, change_json, cut_short, entry, write_job


def only(folder: Path) -> StoredRun:
    (run,) = read_store(folder).runs
    return run


def test_the_jobs_lie_where_the_launcher_puts_them(runs: Path) -> None:
    assert jobs_folder(runs) == launcher.jobs_folder(runs)


def test_jobs_are_read_once_and_again_when_they_change(runs: Path) -> None:
    assert stored_jobs(runs) == []
    second = write_job(runs, entry(), name="b")
    first = write_job(runs, entry(status="finished"), name="a")
    assert stored_jobs(runs) == [first, second]
    assert stored_jobs(runs)[0] is stored_jobs(runs)[0]
    changed = write_job(runs, entry(status="failed", message="no memory"), name="a")
    assert stored_jobs(runs) == [changed, second]


def test_a_job_that_cannot_be_read_is_left_out(runs: Path) -> None:
    write_job(runs, entry(), name="cut")
    cut_short(runs / ".jobs" / "cut.json")
    write_job(runs, entry(), name="old")
    change_json(runs / ".jobs" / "old.json", entries=[{"preset": "induction-cpu"}])
    whole = write_job(runs, entry(), name="whole")
    assert stored_jobs(runs) == [whole]


def test_a_job_is_asked_to_stop(runs: Path, training: Training) -> None:
    stop_job(write_job(runs, entry(status="running"), process=training.record))
    assert training.exit_status == -signal.SIGTERM


def test_a_job_that_is_done_is_left_alone(runs: Path, training: Training) -> None:
    stop_job(write_job(runs, entry(status="finished"), process=training.record))
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(training.process.pid).wait(timeout=0.2)


def test_a_run_is_asked_to_stop(runs: Path, training: Training) -> None:
    write_run(runs, steps=20, state="running", **training.record)
    assert can_stop(only(runs).record)
    stop_run(only(runs).record)
    assert training.exit_status == -signal.SIGTERM
    assert not can_stop(only(runs).record)
    assert only(runs).record.state == "interrupted"


@pytest.mark.parametrize(
    ("state", "changes"),
    [("finished", {}), ("stopped", {}), ("running", {"host": "elsewhere"}), ("running", {"pid_started": 1.0})],
)
def test_a_run_without_a_process_of_its_own_here_is_not(
    runs: Path, training: Training, state: str, changes: dict[str, Any]
) -> None:
    write_run(runs, steps=20, state=state, **(training.record | {"updated": time.time()} | changes))
    record = only(runs).record
    assert not can_stop(record)
    stop_run(record)
    assert training.process.poll() is None


def test_a_process_that_ends_in_between_does_no_harm(runs: Path, training: Training, monkeypatch) -> None:
    write_run(runs, steps=20, state="running", **training.record)
    record = only(runs).record
    training.kill()
    monkeypatch.setattr(trainings, "can_stop", lambda record: True)
    stop_run(record)


def test_resuming_runs_the_command_line_in_the_repository(runs: Path, resumed: list, monkeypatch) -> None:
    path = write_run(runs, steps=20, state="stopped")
    monkeypatch.chdir(runs.parent)
    resume_run(Path("runs"), path.name)
    ((command, options),) = resumed
    assert command[1:] == ["-m", "playground", "resume", path.name, "--runs-dir", str(runs.resolve()), "--json"]
    assert options["cwd"] == PROJECT == ROOT
    assert options["start_new_session"]
    assert options["stdout"].name == str(Path("runs") / ".jobs" / f"resume-{path.name}.log")


def test_a_run_is_resuming_until_its_process_speaks(runs: Path, resumed: list) -> None:
    path = write_run(runs, steps=20, state="stopped")
    assert not is_resuming(only(runs).record)
    resume_run(runs, path.name)
    assert is_resuming(only(runs).record)
    change_json(path / "run.json", updated=time.time() + 1)
    assert not is_resuming(only(runs).record)


def test_patience_with_a_process_that_never_speaks_ends(runs: Path, resumed: list, monkeypatch) -> None:
    path = write_run(runs, steps=20, state="stopped")
    resume_run(runs, path.name)
    monkeypatch.setattr(trainings, "PATIENCE", 0.0)
    assert not is_resuming(only(runs).record)
