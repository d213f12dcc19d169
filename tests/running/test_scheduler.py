"""The scheduler with a reporter, with programs in the place of trainings that make a run's folder and end in every way."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from playground.config import RunConfig
from playground.running import scheduler
from playground.running.jobs import list_jobs
from playground.running.presets import make_config
from playground.running.reporter import Silent
from playground.running.scheduler import scheduled
from playground.runs.errors import RunError
from playground.runs.record import RunRecord
from tests.fake_runs import write_run

FAKE = """#!{python} -S
import json, os, shutil, sys, time
options = dict(zip(sys.argv, sys.argv[1:]))
seed = json.load(open(options["--config"]))["seed"]
path = os.path.join(options["--runs-dir"], options["--run-id"])
def make(status="running"):
    shutil.copytree({prepared!r}, path + ".new")
    say(status, path + ".new")
    os.rename(path + ".new", path)
def say(status, path=path, reason=""):
    record = json.load(open(path + "/run.json")) | dict(status=status, reason=reason)
    json.dump(record, open(path + "/run.json.new", "w"))
    os.rename(path + "/run.json.new", path + "/run.json")
def row(step):
    with open(path + "/metrics.jsonl", "a") as file:
        file.write(json.dumps(dict(kind="train", step=step, tokens=step, seconds=1.0)) + "\\n")
{body}
"""


class Told(Silent):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.begun: list[RunRecord] = []
        self.done: list[RunRecord] = []

    def started(self, record: RunRecord) -> None:
        self.begun.append(record)

    def row(self, row: dict[str, Any], record: RunRecord) -> None:
        self.rows.append(row)

    def ended(self, record: RunRecord) -> None:
        self.done.append(record)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Trains seeds with these lines of Python; `make`, `row` and `say` write what a training writes."""
    prepared = write_run(tmp_path / "prepared", steps=20, done=0, state="interrupted")
    (prepared / "metrics.jsonl").unlink(missing_ok=True)
    monkeypatch.setattr(scheduler, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(scheduler, "cores", lambda: 2)

    def train(body: str, *seeds: int, should_stop=lambda: "", most=9) -> tuple[list[str], Told]:
        program, told = tmp_path / "python", Told()
        program.write_text(FAKE.format(python=os.path.realpath(sys.executable), prepared=str(prepared), body=body))
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        names = [f"run-{seed}" for seed in seeds]
        with scheduled(configs(*seeds), names, tmp_path / "my runs", told, by="command line", most=most) as job:
            job.work(should_stop)
        return sorted(job.begun), told

    return train


def configs(*seeds: int) -> list[RunConfig]:
    return [dataclasses.replace(make_config("induction-cpu", threads=1), seed=seed) for seed in seeds]


def states(tmp_path: Path) -> list[tuple[str, str]]:
    """Status and message of each entry of the only job."""
    (job,) = list_jobs(tmp_path / "my runs")
    assert (
        job.by == "command line"
        and not job.active
        and all(entry.pid or entry.status == "stopped" for entry in job.entries)
    )
    return [(entry.status, entry.message) for entry in job.entries]


def left_over(tmp_path: Path) -> list[str]:
    """What remains in the folder of jobs besides the job's file and lock."""
    return sorted(path.name for path in (tmp_path / "my runs" / ".jobs").glob("*/*"))


def test_a_job_of_the_command_line_can_be_watched_by_others(fake, tmp_path):
    def should_stop() -> str:
        (job,) = list_jobs(tmp_path / "my runs")
        seen.append((job.active, job.process.get("pid"), [entry.status for entry in job.entries]))
        return ""

    seen: list[Any] = []
    fake("make()\ntime.sleep(0.1)\nsay('finished')", 0, 1, 2, should_stop=should_stop, most=1)
    assert seen[0] == (True, os.getpid(), ["queued"] * 3)
    assert (True, os.getpid(), ["finished", "running", "queued"]) in seen
    assert states(tmp_path) == [("finished", "")] * 3
    assert left_over(tmp_path) == []


def test_every_row_is_told_once(fake):
    body = "make()\nfor step in range(30):\n    row(step)\n    time.sleep(0.01)\nsay('finished')"
    runs, told = fake(body, 0)
    assert runs == ["run-0"]
    assert [row["step"] for row in told.rows] == list(range(30))
    assert [record.run for record in told.begun] == ["run-0"] and [record.status for record in told.done] == [
        "finished"
    ]


def test_a_killed_training_is_told_as_interrupted_with_how_to_go_on(fake, tmp_path):
    runs, told = fake("make()\nos.kill(os.getpid(), 9)", 0)
    assert runs == ["run-0"]
    (ended,) = told.done
    assert ended.status == "interrupted"
    command = f"python -m playground resume run-0 --runs-dir '{tmp_path / 'my runs'}'"
    assert ended.reason == f"its process was killed by signal 9; go on with: {command}"
    assert states(tmp_path) == [("failed", "its process was killed by signal 9")]
    assert left_over(tmp_path) == ["run-0.json", "run-0.log"]


def test_a_reason_to_stop_reaches_all_and_is_stored(fake, tmp_path):
    def should_stop() -> str:
        return "enough" if len(list((tmp_path / "my runs").glob("run-*/metrics.jsonl"))) == 2 else ""

    runs, told = fake("make()\nrow(1)\nsay('stopped', reason=sys.stdin.read())", 0, 1, 2, should_stop=should_stop)
    assert runs == ["run-0", "run-1"]
    assert [(record.status, record.reason) for record in told.done] == [("stopped", "enough")] * 2


@pytest.mark.parametrize(("most", "together"), [(9, 2), (1, 1)])
def test_no_more_are_trained_at_once_than_cores_and_memory_allow(fake, most, together):
    """Each training waits for a second one to begin beside it."""
    body = """
make()
for _ in range(40 if {most} == 1 else 1000):
    begun = [json.load(open(os.path.join(options["--runs-dir"], name, "run.json"))) for name in ("run-0", "run-1")
             if os.path.exists(os.path.join(options["--runs-dir"], name))]
    both = sum(record["status"] == "running" for record in begun) == 2
    if both:
        break
    time.sleep(0.02)
time.sleep(0.2)
say("finished", reason=str(1 + both))
""".replace("{most}", str(most))
    _, told = fake(body, 0, 1, most=most)
    assert [record.reason for record in told.done] == [str(together)] * 2


def test_a_training_stopped_before_its_run_exists_is_left_out(fake):
    asked = iter(["", "", *["enough"] * 1000])
    runs, told = fake("sys.stdin.read()\nsys.exit(143)", 0, should_stop=lambda: next(asked))
    assert (runs, told.begun, told.done) == ([], [], [])


def test_a_training_that_fails_before_its_run_exists_stops_the_others(fake, tmp_path):
    body = """
if seed == 1:
    sys.stderr.write("error: no memory")
    sys.exit(1)
make()
reason = sys.stdin.read()
time.sleep(0.3)
say("stopped", reason=reason)
"""
    with pytest.raises(RunError, match=r"^no memory$"):
        fake(body, 0, 1)
    record = json.loads((tmp_path / "my runs" / "run-0" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("stopped", "stopped because another training failed")
    assert states(tmp_path)[1] == ("failed", "no memory")


def test_children_are_waited_for_when_the_caller_is_interrupted(fake, tmp_path):
    started = time.monotonic()

    def should_stop() -> str:
        if list(Path(tmp_path / "my runs").glob("run-*/metrics.jsonl")):
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        fake("make()\nrow(1)\nsay('stopped', reason=sys.stdin.read())", 0, should_stop=should_stop)
    assert json.loads((tmp_path / "my runs" / "run-0" / "run.json").read_text())["reason"] == "stopped by Ctrl-C"
    assert time.monotonic() - started < 30
