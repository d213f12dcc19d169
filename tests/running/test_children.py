"""Child processes: with programs that only wait in the place of trainings, then real ones whose parent is killed."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from playground.running import children
from playground.running.children import ATTACHED, Child, end_all, last_line
from playground.running.cores import cores
from playground.running.jobs import list_jobs, start_job
from playground.running.presets import make_config
from playground.running.runner import resume
from playground.runs.store import Run, load_run
from tests.conftest import ROOT
from tests.test_cli import ENVIRONMENT, TINY

PROGRAM = """#!{python} -S
import os, sys, time
{body}
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Starts a child that runs these lines of Python in the place of `python -m playground train`."""
    started: list[Child] = []

    def start(body: str) -> Child:
        program = tmp_path / f"program-{len(started)}"
        program.write_text(PROGRAM.format(python=os.path.realpath(sys.executable), body=body))
        program.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(program))
            started.append(Child(["--seed", "1"], tmp_path / "runs", tmp_path / f"log-{len(started)}"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def test_a_child_gets_its_command_and_a_pipe_that_no_other_child_holds(child, tmp_path):
    body = f"print(sys.argv[1:], os.environ[{ATTACHED!r}], file=sys.stderr); print(sys.stdin.read(), file=sys.stderr)"
    first, second = child(body), child(body)
    first.stop("enough\n of it")
    wait_until(lambda: first.ended)
    said = first.log.read_text()
    runs_dir = str(tmp_path / "runs")
    assert str(["-m", "playground", "train", "--seed", "1", "--runs-dir", runs_dir, "--json"]) + " 1\n" in said
    assert said.endswith("enough\n of it\n")
    assert not second.ended
    end_all([first, second], "now")
    assert second.log.read_text().endswith("now\n")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("sys.stderr.write('a\\nerror: no memory\\n\\n'); sys.exit(1)", "no memory"),
        ("sys.exit(3)", "its process ended with status 3"),
        ("print('a warning', file=sys.stderr, flush=True); os.kill(0, 9)", "its process was killed by signal 9"),
    ],
)
def test_why_a_child_failed(child, body, problem):
    one = child(body)
    one.process.wait()
    assert one.problem == problem


def test_the_last_line_of_many_is_found(tmp_path):
    (tmp_path / "log").write_bytes(b"x" * 10**6 + b"\nthe last \xff\n \n")
    assert last_line(tmp_path / "log") == "the last \ufffd"


def test_a_child_that_does_not_end_is_killed_after_a_while_and_named(child, monkeypatch):
    monkeypatch.setattr(children, "GRACE", 0.5)
    stubborn = child("time.sleep(600)")
    started = time.monotonic()
    end_all([stubborn], "enough", look_every=0.02)
    assert 0.5 <= time.monotonic() - started < 5
    assert "did not end within" in stubborn.problem and "was killed" in stubborn.problem


def test_one_place_builds_the_command_of_a_training():
    """A list of words with `-m` and `playground`, in the folder of what runs trainings; messages name a command in one text."""
    found = []
    for path in sorted((ROOT / "playground" / "running").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List | ast.Tuple | ast.Call):
                parts = node.args if isinstance(node, ast.Call) else node.elts
                if {"-m", "playground"} <= {part.value for part in parts if isinstance(part, ast.Constant)}:
                    found.append(path.relative_to(ROOT).as_posix())
    assert found == ["playground/running/children.py"]


# --- real trainings -------------------------------------------------------------------------------------------------

SEEDS = [sys.executable, "-m", "playground", "train", *TINY, "--seeds", "0..1", "--steps", "100000", "--eval-every", "100000",
         "--probe-points", "0", "--device", "cpu"]  # fmt: skip
ENDS = {
    "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    "hangup": [signal.SIGHUP],
    "SIGTERM": [signal.SIGTERM],
    "kill -9": [signal.SIGKILL],
}


def training(runs_dir: Path) -> list[Path]:
    """The runs that have logged something."""
    return sorted(path.parent for path in runs_dir.glob("*/metrics.jsonl") if path.read_text().count("\n") > 3)


def assert_stopped_and_resumable(path: Path) -> Run:
    run = load_run(path)
    assert run.record.state == "stopped" and run.record.step > 0, run.record
    assert run.checkpoints[-1] == run.record.step
    asked = iter(range(100))
    assert resume(run, should_stop=lambda: "enough" if next(asked) == 2 else "").record.step == run.record.step + 2
    return run


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_children_end_with_a_checkpoint_when_their_parent_ends(tmp_path, end):
    with (tmp_path / "said").open("w") as said:
        parent = subprocess.Popen(
            [*SEEDS, "--runs-dir", str(tmp_path / "runs")],
            stderr=said,
            env=ENVIRONMENT,
            cwd=ROOT,
            start_new_session=True,
        )
    wait_until(lambda: len(training(tmp_path / "runs")) == min(2, cores()) or parent.poll() is not None, 60)
    trainings = psutil.Process(parent.pid).children(recursive=True)
    assert len(trainings) == min(2, cores()), (tmp_path / "said").read_text()
    for number in ENDS[end]:
        parent.send_signal(number)
        time.sleep(0.05)
    parent.wait(20)
    _, alive = psutil.wait_procs(trainings, timeout=20)
    assert not alive
    runs = [assert_stopped_and_resumable(path) for path in training(tmp_path / "runs")]
    orphaned = "stopped because the process that started it ended"
    reasons = {
        "Ctrl-C twice": {"stopped by Ctrl-C", orphaned},
        "hangup": {"stopped by SIGHUP"},
        "SIGTERM": {"stopped by SIGTERM"},
        "kill -9": {orphaned},
    }
    assert {run.record.reason for run in runs} <= reasons[end]
    assert parent.returncode in {"Ctrl-C twice": (130, -2), "hangup": (129,), "SIGTERM": (143,), "kill -9": (-9,)}[end]
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.slow
def test_a_jobs_trainings_end_with_a_checkpoint_when_its_process_is_killed(tmp_path):
    job = start_job(tmp_path, [make_config("induction-cpu", seed=seed, steps=100_000) for seed in (0, 1)])
    wait_until(lambda: len(training(tmp_path)) == min(2, cores()), 60)
    (stored,) = list_jobs(tmp_path)
    assert stored.active and [entry.status for entry in stored.entries].count("running") == min(2, cores())
    worker = psutil.Process(stored.process["pid"])
    trainings = worker.children(recursive=True)
    worker.kill()
    wait_until(lambda: not stored.active, 5)
    _, alive = psutil.wait_procs(trainings, timeout=20)
    assert not alive and job.id == stored.id
    for path in training(tmp_path):
        assert_stopped_and_resumable(path)


def test_a_child_asked_while_it_loads_ends_at_once(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"task": {"name": "induction"}}))
    one = Child(["--config", str(config), "--run-id", "run"], tmp_path / "runs", tmp_path / "log")
    one.stop("stopped by Ctrl-C")
    started = time.monotonic()
    wait_until(lambda: one.ended)
    assert one.process.returncode in children.STOPPED and time.monotonic() - started < 15
    assert not (tmp_path / "runs" / "run").exists() or load_run(tmp_path / "runs" / "run").record.status == "stopped"
    assert "Traceback" not in one.log.read_text()
