"""Jobs: a real one in a process of its own, and what the worker does with fake trainings that end in every way."""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from playground.experiments.cores import cores
from playground.experiments.launcher import (
    MOST_ENTRIES,
    Entry,
    Job,
    jobs_folder,
    list_jobs,
    read_job,
    start_job,
    stop_job,
)
from playground.experiments.presets import make_config
from playground.experiments.stopping import NAMES
from playground.experiments.worker import Worker
from playground.runs.errors import RunError
from playground.runs.store import list_runs, load_run
from playground.runs.writing import write_json
from tests.fake_runs import GONE

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


@contextlib.contextmanager
def locked(folder: Path, name: str = "job") -> Iterator[None]:
    """What the process of a job holds as long as it lives; here this process does."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


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


def write_job(runs_dir: Path, job: Job, name: str = "job") -> Path:
    """The file of a job that no process works on."""
    path = jobs_folder(runs_dir) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(job, path=path).write()
    return path


def entry(seed: int = 0, **changes) -> Entry:
    parts = {"preset": "induction-cpu", "n_future": 2, "control": "layers", "steps": 9, "run": f"run-{seed}"}
    return Entry(seed=seed, **(parts | changes))


def make_job(*entries: Entry, **changes) -> Job:
    parts = {"id": "job", "created": time.time(), "parallel": 1, "threads": 3, "device": "cpu"}
    return Job(entries=entries, **(parts | changes))


def statuses(job: Job) -> list[str]:
    return [entry.status for entry in job.entries]


# --- a real job -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_trains_its_models_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = start_job("runs", "induction-cpu", n_futures=[1, 2], seeds=[3], steps=2, parallel=2, device="cpu")
    assert job.active and statuses(job) == ["queued", "queued"]
    assert [(entry.n_future, entry.seed, entry.steps, entry.control) for entry in job.entries] == [
        (1, 3, 2, "layers"), (2, 3, 2, "layers")]  # fmt: skip
    (stored,) = list_jobs(tmp_path / "runs")
    assert stored.id == job.id and stored.active
    for _ in range(1200):
        (stored,) = list_jobs(tmp_path / "runs")
        if not stored.active:
            break
        time.sleep(0.1)
    log = jobs_folder(tmp_path / "runs") / f"{job.id}.log"
    assert statuses(stored) == ["finished", "finished"], (stored, log.read_text())
    assert stored.process["pid"] != os.getpid()
    for item in stored.entries:
        run = load_run(tmp_path / "runs" / item.run)
        assert (run.record.state, run.record.step, run.record.preset) == ("finished", 2, "induction-cpu")
        assert (run.record.n_future, run.record.seed, run.record.threads) == (item.n_future, 3, job.threads)
    runs, broken = list_runs(tmp_path / "runs")
    assert len(runs) == 2 and not broken


# --- what start_job refuses and plans --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "induction"}, "there is no preset 'induction'"),
        ({"n_futures": [1, 30]}, "leaves no trunk"),
        ({"seeds": [-1]}, "seed is -1"),
        ({"steps": 0}, "steps is 0"),
    ],
    ids=str,
)
def test_what_is_impossible_is_refused_before_anything_starts(tmp_path, options, message):
    values = {"preset": "induction-cpu", "n_futures": [1], "seeds": [0]} | options
    with pytest.raises(ValueError, match=message):
        start_job(tmp_path, values.pop("preset"), **values)
    assert list_jobs(tmp_path) == [] and list_runs(tmp_path) == ([], [])


@pytest.fixture
def nothing_starts(monkeypatch, tmp_path):
    """The process of a job ends at once."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


PLANS = [
    ("induction-cpu", [1, 2], [0, 1, 2], None, min(6, cores())),
    ("induction-cpu", [1], [0], None, 1),
    ("induction-cpu", [1, 2], [0], 1, 1),
    ("induction-cpu", [1, 2], [0], 9, 2),
    ("stories-gpu", [1, 2], [0, 1], None, 1),
]


@pytest.mark.parametrize(("preset", "n_futures", "seeds", "parallel", "expected"), PLANS, ids=str)
def test_the_cores_are_shared_by_what_runs_side_by_side(
    tmp_path, nothing_starts, monkeypatch, preset, n_futures, seeds, parallel, expected
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = start_job(tmp_path, preset, n_futures=n_futures, seeds=seeds, parallel=parallel, control="trunk")
    assert job.parallel == expected
    assert job.threads == max(1, cores() // expected)
    assert [(entry.seed, entry.n_future) for entry in job.entries] == list(itertools.product(seeds, n_futures))
    assert {entry.control for entry in job.entries} == {"trunk"}
    assert {entry.steps for entry in job.entries} == {make_config(preset).train.steps}
    assert read_job(jobs_folder(tmp_path) / f"{job.id}.json") == job


def test_a_job_whose_process_cannot_start_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(FileNotFoundError):
        start_job(tmp_path / "runs", "induction-cpu", n_futures=[1], seeds=[0])
    assert list_jobs(tmp_path / "runs") == []


def test_more_trainings_than_a_job_file_holds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2,001 trainings are too many for one job; choose at most 2,000"):
        start_job(tmp_path, "induction-cpu", n_futures=[1], seeds=list(range(2001)))


def test_ids_are_free_and_differ_within_a_job(tmp_path, nothing_starts):
    first = start_job(tmp_path, "induction-cpu", n_futures=[1], seeds=[0, 0])
    names = [entry.run for entry in first.entries]
    assert names[1] == f"{names[0]}-2"
    (tmp_path / names[0]).mkdir()
    (second,) = start_job(tmp_path, "induction-cpu", n_futures=[1], seeds=[0]).entries
    assert second.run != names[0]


# --- the worker, with fake trainings ---------------------------------------------------------------------------------

ENDINGS = [
    ({"status": 0}, "finished", ""),
    ({"status": 0, "says": "a warning\n"}, "finished", ""),
    ({"status": 1, "says": "step 3\nerror: the loss became nan\n\n"}, "failed", "error: the loss became nan"),
    ({"status": 2, "says": "error: there is no preset 'a'"}, "failed", "error: there is no preset 'a'"),
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
        "--preset": "induction-cpu", "--n-future": "2", "--control": "layers", "--seed": "0", "--steps": "9",
        "--threads": "3", "--device": "cpu", "--run-id": "run-0", "--runs-dir": str(tmp_path / "runs")}  # fmt: skip


@pytest.mark.parametrize("parallel", [1, 2])
def test_as_many_run_side_by_side_as_allowed_in_order(worked, parallel):
    job, log = worked(*[{"seconds": 0.3}] * 4, parallel=parallel)
    running = list(itertools.accumulate({"start": 1, "end": -1}[line["what"]] for line in log))
    assert max(running) == parallel
    starts = [line["seed"] for line in log if line["what"] == "start"]
    assert [sorted(starts[i : i + parallel]) for i in range(0, 4, parallel)] == [
        list(range(i, i + parallel)) for i in range(0, 4, parallel)]  # fmt: skip
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


# --- job files ------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_oldest_first_without_broken_files(tmp_path):
    assert list_jobs(tmp_path) == []
    for name in ("20250102-b", "20250101-a"):
        write_job(tmp_path, make_job(entry(), id=name), name)
    for name, content in {"cut": "{", "list": "[]", "old": json.dumps({"id": "x"}), "number": "3"}.items():
        (jobs_folder(tmp_path) / f"{name}.json").write_text(content)
    assert [job.id for job in list_jobs(tmp_path)] == ["20250101-a", "20250102-b"]


HOSTILE = {
    "no entries": {"entries": None},
    "entries that are no list": {"entries": {"run": "a"}},
    "an entry that is no object": {"entries": [3]},
    "too many": {"entries": [{}] * (MOST_ENTRIES + 1)},
    "another type": {"parallel": "two"},
    "no number": {"created": True},
    "a huge number": {"threads": 10**80},
    "an unknown field": {"more": 1},
    "a process that is none": {"process": 7},
    "a process id that is none": {"process": {"pid": 10**30, "host": "here"}},
    "half a letter": {"device": "\ud800"},
}
HOSTILE_ENTRIES = {
    "out of the folder": {"run": "../../x"},
    "a folder": {"run": "a/b"},
    "hidden": {"run": ".lock"},
    "empty": {"run": ""},
    "no text": {"run": 3},
    "an unknown status": {"status": "dancing"},
    "a huge seed": {"seed": 10**80},
    "a fraction": {"n_future": 1.5},
    "an unknown field": {"more": 1},
}


@pytest.mark.parametrize("name", [*HOSTILE, *HOSTILE_ENTRIES])
def test_a_job_file_with_impossible_values_is_left_out(tmp_path, name):
    path = write_job(tmp_path, make_job(entry()))
    values = json.loads(path.read_text())
    if name in HOSTILE:
        values |= HOSTILE[name]
    if name in HOSTILE_ENTRIES:
        values["entries"][0] |= HOSTILE_ENTRIES[name]
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match="is damaged: "):
        read_job(path)
    assert list_jobs(tmp_path) == []


def test_only_regular_files_are_read(tmp_path):
    jobs_folder(tmp_path).mkdir()
    os.mkfifo(jobs_folder(tmp_path) / "pipe.json")
    (jobs_folder(tmp_path) / "folder.json").mkdir()
    assert list_jobs(tmp_path) == []


def test_a_job_goes_by_the_name_of_its_file(tmp_path):
    path = write_job(tmp_path, make_job(entry(), id="../../../elsewhere"))
    assert read_job(path).id == "job"


ACTIVE = [
    ("running", True, True),
    ("queued", True, True),
    ("finished", True, False),
    ("failed", True, False),
    ("running", False, False),
    ("queued", False, False),
]


@pytest.mark.parametrize(("status", "held", "active"), ACTIVE)
def test_a_job_is_active_while_its_lock_is_held_and_something_is_left(tmp_path, status, held, active, monkeypatch):
    """Clocks, start times of processes and numbers of processes say nothing."""
    process = {"pid": os.getpid(), "host": socket.gethostname()}
    path = write_job(tmp_path, make_job(entry(status="finished"), entry(1, status=status), process=process))
    with locked(path.parent, "job" if held else "another"):
        for clock in (0.0, 1e10):
            monkeypatch.setattr(time, "time", lambda clock=clock: clock)
            assert read_job(path).active == active


def test_a_job_is_stopped_only_where_its_process_is_known(tmp_path, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(psutil.Process, "send_signal", lambda process, _number: asked.append(process.pid))
    here = {"pid": os.getpid(), "host": socket.gethostname()}
    for held, process in (
        (False, here), (True, {}), (True, here | {"host": "elsewhere"}), (True, here | {"pid": os.getppid()}),
        (True, here | {"pid": GONE}),
    ):  # fmt: skip
        path = write_job(tmp_path, make_job(entry(status="running"), process=process))
        with locked(path.parent, "job" if held else "another"):
            stop_job(read_job(path))
            assert asked == []
    path = write_job(tmp_path, make_job(entry(status="running"), process=here))
    with locked(path.parent):
        stop_job(read_job(path))
    assert asked == [os.getpid()]


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
