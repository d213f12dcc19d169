"""Jobs: a real one in a process of its own, what start_job plans, and when a job file counts."""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from playground.config import RunConfig
from playground.running import fitting, jobs
from playground.running.cores import cores
from playground.running.jobs import (
    MOST_ENTRIES,
    Entry,
    Job,
    config_file,
    jobs_folder,
    list_jobs,
    read_job,
    start_job,
    stop_job,
)
from playground.running.presets import make_config
from playground.runs.errors import RunError
from playground.runs.store import list_runs, load_run
from tests.fake_runs import GONE


@contextlib.contextmanager
def locked(folder: Path, name: str = "job") -> Iterator[None]:
    """What the process of a job holds as long as it lives; here this process does."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def write_job(runs_dir: Path, job: Job, name: str = "job") -> Path:
    """The files of a job that no process works on."""
    path = jobs_folder(runs_dir) / f"{name}.json"
    path.with_suffix("").mkdir(parents=True, exist_ok=True)
    job = dataclasses.replace(job, path=path)
    for one in job.entries:
        config_file(job, one.run).write_text(json.dumps(make_config("induction-cpu", seed=one.seed).to_dict()))
    job.write()
    return path


def entry(seed: int = 0, **changes) -> Entry:
    parts = {"task": "induction", "n_future": 2, "control": "layers", "steps": 9, "run": f"run-{seed}", "part": seed}
    return Entry(seed=seed, **(parts | changes))


def make_job(*entries: Entry, **changes) -> Job:
    parts = {"id": "job", "created": time.time(), "by": "app", "parallel": 1}
    return Job(entries=entries, **(parts | changes))


def configs(*models: tuple[int, int], preset: str = "induction-cpu", **options) -> list[RunConfig]:
    """A configuration for each (n_future, seed)."""
    return [make_config(preset, n_future=n_future, seed=seed, **options) for n_future, seed in models]


def on_cpu(*found: RunConfig) -> list[RunConfig]:
    """The configurations, for the CPU also where there is a GPU."""
    return [dataclasses.replace(one, train=dataclasses.replace(one.train, device="cpu")) for one in found]


def statuses(job: Job) -> list[str]:
    return [entry.status for entry in job.entries]


# --- a real job -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_trains_its_models_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = start_job("runs", on_cpu(*configs((1, 3), (2, 3), steps=2)), parallel=2)
    assert job.active and statuses(job) == ["queued", "queued"]
    assert [(entry.n_future, entry.seed, entry.steps, entry.control) for entry in job.entries] == [
        (1, 3, 2, "layers"),
        (2, 3, 2, "layers"),
    ]
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
        assert (run.record.n_future, run.record.seed, run.record.threads) == (item.n_future, 3, max(1, cores() // 2))
    runs, broken = list_runs(tmp_path / "runs")
    assert len(runs) == 2 and not broken


# --- what start_job plans --------------------------------------------------------------------------------


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
    models = [(n, seed) for seed in seeds for n in n_futures]
    job = start_job(tmp_path, configs(*models, preset=preset, control="trunk"), parallel=parallel, by="app")
    assert (job.parallel, job.by) == (expected, "app")
    assert [(entry.seed, entry.n_future) for entry in job.entries] == list(itertools.product(seeds, n_futures))
    assert {entry.control for entry in job.entries} == {"trunk"}
    assert {entry.steps for entry in job.entries} == {make_config(preset).train.steps}
    assert read_job(jobs_folder(tmp_path) / f"{job.id}.json") == job
    stored = RunConfig.from_dict(json.loads(config_file(job, job.entries[0].run).read_text()))
    assert stored == configs(models[0], preset=preset, control="trunk", threads=max(1, cores() // expected))[0]


def test_no_more_side_by_side_than_the_memory_holds(tmp_path, nothing_starts, monkeypatch):
    """On the CPU; a GPU holds the seeds of equal settings in one process, which splits them itself."""
    monkeypatch.setattr(fitting, "free_memory", lambda _device: 1)
    assert start_job(tmp_path, on_cpu(*configs((1, 0), (1, 1))), parallel=2).parallel == 1


def test_a_job_whose_process_cannot_start_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(FileNotFoundError):
        start_job(tmp_path / "runs", configs((1, 0)))
    assert list_jobs(tmp_path / "runs") == []


def test_more_trainings_than_a_job_file_holds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="10,001 trainings are too many for one job; choose at most 10,000"):
        start_job(tmp_path, configs((1, 0)) * 10_001)
    assert list_jobs(tmp_path) == [] and list_runs(tmp_path) == ([], [])


def test_ids_are_free_and_differ_within_a_job(tmp_path, nothing_starts):
    first = start_job(tmp_path, configs((1, 0), (1, 0)))
    names = [entry.run for entry in first.entries]
    assert names[1] == f"{names[0]}-2"
    (tmp_path / names[0]).mkdir()
    (second,) = start_job(tmp_path, configs((1, 0))).entries
    assert second.run != names[0]


def test_ids_differ_between_jobs_that_start_at_once(tmp_path, monkeypatch):
    """The second knows the ids of the first, whose runs have no folders yet."""
    with contextlib.ExitStack() as locks, ThreadPoolExecutor(4) as pool:

        def start(job: Job) -> None:
            time.sleep(0.05)
            job.write()
            locks.enter_context(locked(jobs_folder(tmp_path), job.id))

        monkeypatch.setattr(jobs, "_start_worker", start)
        started = list(pool.map(lambda _: start_job(tmp_path, configs((1, 0), (1, 1))), range(4)))
    assert len({entry.run for job in started for entry in job.entries}) == 8


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
    "a huge number": {"parallel": 10**80},
    "an unknown field": {"more": 1},
    "a process that is none": {"process": 7},
    "a process id that is none": {"process": {"pid": 10**30, "host": "here"}},
    "an unknown starter": {"by": "nobody"},
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
    "half a letter": {"message": "\ud800"},
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


def test_a_job_of_a_notebook_is_not_stopped_by_a_signal(tmp_path, monkeypatch):
    """SIGTERM would end the notebook's process."""
    asked: list[int] = []
    monkeypatch.setattr(psutil.Process, "send_signal", lambda process, _number: asked.append(process.pid))
    process = {"pid": os.getpid(), "host": socket.gethostname()}
    path = write_job(tmp_path, make_job(entry(status="running"), process=process, by="Python"))
    with locked(path.parent):
        assert read_job(path).active and not read_job(path).can_stop
        stop_job(read_job(path))
    assert asked == []


def test_a_job_is_stopped_only_where_its_process_is_known(tmp_path, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(psutil.Process, "send_signal", lambda process, _number: asked.append(process.pid))
    here = {"pid": os.getpid(), "host": socket.gethostname()}
    for held, process in (
        (False, here),
        (True, {}),
        (True, here | {"host": "elsewhere"}),
        (True, here | {"pid": os.getppid()}),
        (True, here | {"pid": GONE}),
    ):
        path = write_job(tmp_path, make_job(entry(status="running"), process=process))
        with locked(path.parent, "job" if held else "another"):
            stop_job(read_job(path))
            assert asked == []
    path = write_job(tmp_path, make_job(entry(status="running"), process=here))
    with locked(path.parent):
        stop_job(read_job(path))
    assert asked == [os.getpid()]
