"""The process of a job with fake trainings that end in every way."""

import itertools
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from playground.running.launcher import Job, read_job, stop_job
from playground.running.stopping import NAMES
from playground.running.worker import Worker
from playground.runs.store import load_run
from playground.runs.writing import write_json
from tests.running.test_launcher import entry, locked, make_job, statuses, write_job

FAKE_TRAINING = """#!{python} -S
import json, os, signal, sys, threading, time
options = dict(zip(sys.argv, sys.argv[1:]))
plan = json.load(open({plans!r}))[int(options["--seed"])]
log = open({log!r}, "a", buffering=1)
def say(what):
    log.write(json.dumps(dict(what=what, seed=int(options["--seed"]), command=sys.argv[1:])) + "\\n")
def wait_for_the_end_of_the_pipe():
    reason = sys.stdin.read()
    if plan.get("when stopped") is not None:
        say("asked to stop: " + reason)
        time.sleep(0.4)
        say("end")
        os._exit(plan["when stopped"])
threading.Thread(target=wait_for_the_end_of_the_pipe, daemon=True).start()
say("start")
sys.stderr.write(plan.get("says", ""))
sys.stderr.flush()
time.sleep(plan.get("seconds", 0))
say("end")
if plan.get("signal"):
    if plan["signal"] != signal.SIGKILL:
        signal.signal(plan["signal"], signal.SIG_DFL)
    signal.raise_signal(plan["signal"])
os._exit(plan.get("status", 0))
"""
"""Stands where Python stands in a training's command, and ends as its plan says."""


@pytest.fixture
def kept_signals():
    handlers = {number: signal.getsignal(number) for number in NAMES}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def worked(tmp_path, monkeypatch, kept_signals):
    """Works through a job with one fake training for each plan; gives the job and the log of the trainings."""
    program = tmp_path / "python"

    def work(*plans: dict, parallel: int = 1, meanwhile=None) -> tuple[Job, list[dict]]:
        write_json(tmp_path / "plans.json", plans)
        text = FAKE_TRAINING.format(
            python=os.path.realpath(sys.executable), plans=str(tmp_path / "plans.json"), log=str(tmp_path / "log.jsonl")
        )
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        path = write_job(tmp_path / "runs", make_job(*(entry(seed) for seed in range(len(plans))), parallel=parallel))
        monkeypatch.setattr(sys, "executable", str(program))
        thread = threading.Thread(target=meanwhile, args=(path, tmp_path / "log.jsonl")) if meanwhile else None
        with locked(path.parent):
            if thread:
                thread.start()
            Worker(path).work()
            if thread:
                thread.join()
        return read_job(path), log_lines(tmp_path / "log.jsonl")

    return work


def log_lines(path: Path) -> list[dict]:
    """What the fake trainings have said so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


ENDINGS = [
    ({"status": 0}, "finished", ""),
    ({"status": 0, "says": "a warning\n"}, "finished", ""),
    ({"status": 1, "says": "step 3\nerror: the loss became nan\n\n"}, "failed", "the loss became nan"),
    ({"status": 2, "says": "error: there is no preset 'a'"}, "failed", "there is no preset 'a'"),
    ({"status": 1}, "failed", "its process ended with status 1"),
    ({"status": 130}, "stopped", ""),
    ({"status": 143, "says": "stopped by SIGTERM at step 3"}, "stopped", ""),
    ({"signal": int(signal.SIGTERM)}, "stopped", ""),
    ({"signal": int(signal.SIGKILL)}, "failed", "its process was killed by signal 9"),
]


def test_every_ending_has_its_status_and_a_failure_its_reason(worked):
    job, _ = worked(*(plan for plan, _, _ in ENDINGS), parallel=3)
    assert [(entry.status, entry.message) for entry in job.entries] == [ending[1:] for ending in ENDINGS]
    assert not job.active


def test_each_training_gets_what_its_entry_says(worked, tmp_path):
    _, log = worked({})
    command = log[0]["command"]
    assert command[:3] == ["-m", "playground", "train"] and command[-1] == "--json"
    options = dict(zip(command[3:-1:2], command[4:-1:2], strict=True))
    assert options == {
        "--preset": "induction-cpu",
        "--n-future": "2",
        "--control": "layers",
        "--objective": "n_token",
        "--seed": "0",
        "--steps": "9",
        "--threads": "3",
        "--device": "cpu",
        "--run-id": "run-0",
        "--runs-dir": str(tmp_path / "runs"),
    }


@pytest.mark.parametrize("parallel", [1, 2])
def test_as_many_run_side_by_side_as_allowed_in_order(worked, parallel):
    job, log = worked(*[{"seconds": 0.3}] * 4, parallel=parallel)
    running = list(itertools.accumulate({"start": 1, "end": -1}[line["what"]] for line in log))
    assert max(running) == parallel
    starts = [line["seed"] for line in log if line["what"] == "start"]
    assert [sorted(starts[i : i + parallel]) for i in range(0, 4, parallel)] == [
        list(range(i, i + parallel)) for i in range(0, 4, parallel)
    ]
    assert statuses(job) == ["finished"] * 4


def test_the_file_tells_what_runs_now(worked):
    seen = []

    def look(path: Path, log: Path) -> None:
        while not log_lines(log):
            time.sleep(0.005)
        seen.extend([read_job(path), read_job(path).active])

    worked({"seconds": 0.5}, {}, meanwhile=look)
    job, active = seen
    assert statuses(job) == ["running", "queued"]
    assert active and job.process == {"pid": os.getpid(), "host": socket.gethostname()}


def test_stopping_asks_what_runs_once_waits_for_it_and_starts_nothing_more(worked):
    def stop(path: Path, log: Path) -> None:
        while len(log_lines(log)) < 2:
            time.sleep(0.005)
        for _ in range(2):
            stop_job(read_job(path))
            time.sleep(0.15)

    plans = [{"seconds": 60, "when stopped": 143}, {"seconds": 60, "when stopped": 130}, {}, {}]
    job, log = worked(*plans, parallel=2, meanwhile=stop)
    assert statuses(job) == ["stopped"] * 4
    assert {line["seed"] for line in log} == {0, 1}
    assert sum(line["what"] == "asked to stop: stopped by SIGTERM" for line in log) == 2
    assert sum(line["what"] == "end" for line in log) == 2
    assert not job.active


# --- seeds side by side on a GPU -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_seeds_that_share_a_stack_share_a_process_and_each_tells_how_it_ended(tmp_path, kept_signals):
    """As on a GPU; on the CPU the process of a group trains its runs in processes of their own."""
    runs = tmp_path / "runs"
    names = {(1, 0): "a", (2, 0): "b", (1, 1): "c"}
    entries = [entry(seed, n_future=n, steps=2, run=run) for (n, seed), run in names.items()]
    train_first = entry(0, n_future=2, steps=2, run="b")
    job = make_job(*entries, stacked=True, threads=1)
    path = write_job(runs, job)
    (runs / train_first.run).mkdir()  # its name is taken
    Worker(path).work()
    ended = read_job(path)
    assert statuses(ended) == ["finished", "failed", "finished"]
    assert "there is a run 'b'" in ended.entries[1].message
    assert [load_run(runs / run).record.seed for run in ("a", "c")] == [0, 1]
    assert sorted(log.name for log in path.parent.glob("*.log")) == ["a.log", "b.log"]
