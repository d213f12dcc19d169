"""Starting, stopping and resuming trainings, with processes that only wait in the place of those that train."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.runs.store import Run, read_store
from playground.ui.train.trainings import (
    PROJECT,
    can_stop,
    is_resuming,
    resume_problem,
    resume_run,
    stop_job,
    stop_run,
    stored_jobs,
)
from tests.conftest import ROOT
from tests.fake_runs import GONE, let_go, write_run
from tests.ui.conftest import Resumed
from tests.ui.support import Training, change_json, cut_short, entry, write_job


def only(folder: Path) -> Run:
    (run,) = read_store(folder, lenient=True).runs
    return run


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
    stop_job(write_job(runs, entry(status="running"), by=training))
    assert training.exit_status == -signal.SIGTERM


def test_a_job_that_is_done_is_left_alone(runs: Path, training: Training) -> None:
    stop_job(write_job(runs, entry(status="finished"), by=training))
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(training.process.pid).wait(timeout=0.2)


def test_a_run_is_asked_to_stop(runs: Path, training: Training) -> None:
    training.write_run(runs, steps=20)
    assert can_stop(only(runs))
    stop_run(only(runs))
    assert training.exit_status == -signal.SIGTERM
    assert not can_stop(only(runs))
    assert only(runs).record.state == "interrupted"


@pytest.mark.parametrize(
    "changes",
    [{"status": "finished"}, {"status": "stopped"}, {"host": "elsewhere"}, {"pid": os.getpid()}, {"pid": GONE}],
)
def test_a_run_whose_process_is_not_known_for_certain_is_not(
    runs: Path, training: Training, changes: dict[str, Any]
) -> None:
    path = training.write_run(runs, steps=20)
    change_json(path / "run.json", **changes)
    assert not can_stop(only(runs))
    stop_run(only(runs))
    assert training.process.poll() is None


def test_a_process_that_does_not_hold_the_lock_is_left_alone(runs: Path, training: Training) -> None:
    """Another program can have the number of a process that has ended."""
    let_go(write_run(runs, steps=20, state="running", **training.record))
    stop_run(only(runs))
    assert training.process.poll() is None


def test_resuming_runs_the_command_line_in_the_repository(runs: Path, resumed: Resumed, monkeypatch) -> None:
    path = write_run(runs, steps=20, state="stopped")
    monkeypatch.chdir(runs.parent)
    resume_run(only(Path("runs")))
    ((command, options),) = resumed
    where = ["--runs-dir", str(runs.resolve())]
    assert command[1:] == ["-m", "playground", "resume", str(path.resolve()), *where, "--json"]
    assert options["cwd"] == PROJECT == ROOT
    assert options["start_new_session"]
    assert options["stdout"].name == str(Path("runs") / ".jobs" / f"resume-{path.name}.log")
    assert is_resuming(only(Path("runs"))) and is_resuming(only(runs))


def test_a_run_is_resuming_until_its_process_speaks(runs: Path, resumed: Resumed) -> None:
    path = write_run(runs, steps=20, state="stopped")
    assert not is_resuming(only(runs))
    resume_run(only(runs))
    assert is_resuming(only(runs)) and not resume_problem(only(runs))
    change_json(path / "run.json", updated=1.0)  # whatever the clock says
    assert not is_resuming(only(runs)) and not resume_problem(only(runs))


def test_the_last_words_of_a_process_that_did_not_go_on_are_told(runs: Path, resumed: Resumed) -> None:
    path = write_run(runs, steps=20, state="stopped")
    resume_run(only(runs))
    (runs / ".jobs" / f"resume-{path.name}.log").write_text("a warning\nerror: the text has changed\n")
    resumed.status = 2
    assert not is_resuming(only(runs))
    assert resume_problem(only(runs)) == "error: the text has changed"
    resumed.status = 0
    assert not is_resuming(only(runs)) and resume_problem(only(runs)) == ""
