"""`run.json`: round trips, what each field may hold, and whether a run is trained now."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from playground.results import ScoreInfo
from playground.runs.errors import RunError
from playground.runs.lock import holder, is_locked, probing_lock, run_lock, sole_lock
from playground.runs.record import RunRecord, default_runs_dir, parse_record, this_process
from playground.runs.writing import write_json
from tests.fake_runs import GONE

SCORES = tuple(
    ScoreInfo(name=name, chance=0.1, ceiling=1.0, unit="share", higher_is_better=True) for name in ("first", "second")
)


def record(**changes) -> RunRecord:
    parts = {
        "run": "r",
        "status": "finished",
        "task": "induction",
        "preset": None,
        "n_future": 2,
        "control": "layers",
        "seed": 3,
        "config_hash": "01234567",
        "steps": 100,
    }
    return RunRecord(**(parts | changes))


# --- the record -----------------------------------------------------------------------------------------------------


def test_a_record_survives_json():
    written = record(
        scores=SCORES, final={"first": 0.25}, parameters={"total": 7}, finished=12.5, versions={"python": "3"}
    )
    assert RunRecord.from_dict(json.loads(json.dumps(written.to_dict()))) == written


def test_keys_of_a_later_version_are_left_out():
    assert RunRecord.from_dict(record().to_dict() | {"mood": "good"}) == record()


@pytest.mark.parametrize("key", ["run", "status", "task", "seed", "steps"])
def test_a_missing_key_is_refused(key):
    values = record().to_dict()
    del values[key]
    with pytest.raises(ValueError, match=f"it has no '{key}'"):
        RunRecord.from_dict(values)


# --- whether it is trained now ----------------------------------------------------------------------------------------


def in_folder(folder: Path, **changes) -> RunRecord:
    write_json(folder / "run.json", record(**changes).to_dict())
    return parse_record(folder / "run.json")


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
def test_a_run_says_running_only_while_its_lock_is_held(tmp_path, status):
    found = in_folder(tmp_path, status=status, **this_process())
    assert found.state == ("interrupted" if status == "running" else status)
    with run_lock(tmp_path):
        assert found.state == status
    assert found.state == ("interrupted" if status == "running" else status)


def test_a_killed_process_no_longer_trains(tmp_path):
    program = (
        "import sys; from playground.runs.lock import acquire; from pathlib import Path\n"
        "lock = acquire(Path(sys.argv[1])); print('held', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    found = in_folder(tmp_path, status="running", pid=child.pid, host=socket.gethostname())
    assert found.state == "running" and holder(tmp_path, child.pid).pid == child.pid
    assert holder(tmp_path, os.getpid()) is None and holder(tmp_path, GONE) is None
    child.kill()
    child.communicate()
    assert found.state == "interrupted" and holder(tmp_path, child.pid) is None


@pytest.mark.parametrize("clock", [-1e6, -10.0, 10.0, 1e6])
def test_a_clock_that_is_set_changes_nothing(tmp_path, clock, monkeypatch):
    now = time.time()
    found = in_folder(tmp_path, status="running", updated=now, **this_process())
    monkeypatch.setattr(time, "time", lambda: now + clock)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _self: now + clock)
    assert found.state == "interrupted"
    with run_lock(tmp_path):
        assert found.state == "running"


@pytest.mark.parametrize(("ago", "state"), [(60, "running"), (-60, "running"), (3600, "interrupted")])
def test_a_run_of_another_machine_counts_as_alive_for_ten_minutes(tmp_path, ago, state):
    assert in_folder(tmp_path, status="running", host="elsewhere", updated=time.time() - ago).state == state


def test_looking_at_a_lock_leaves_it_and_the_folder_alone(tmp_path):
    assert not is_locked(tmp_path) and not list(tmp_path.iterdir())
    for _ in range(3):
        with run_lock(tmp_path):
            assert is_locked(tmp_path)
            with pytest.raises(RunError, match="is being trained by another process"), run_lock(tmp_path):
                pass
        assert not is_locked(tmp_path)


def test_probing_and_training_exclude_each_other_and_probing_does_not_look_like_training(tmp_path):
    with probing_lock(tmp_path):
        assert not is_locked(tmp_path)
        with pytest.raises(RunError, match="is being probed"), sole_lock(tmp_path):
            pass
    with run_lock(tmp_path), pytest.raises(RunError, match="is being trained"), probing_lock(tmp_path):
        pass


# --- what each field may hold -----------------------------------------------------------------------------------------

HOSTILE = [None, True, -1, 2**80, 1.5, 1e400, "", "x" * 30_000, "\ud800", [], [1], {}, {"a": []}, {"a": {"b": 1}}]
FIELDS = [item.name for item in dataclasses.fields(RunRecord) if item.name != "folder"]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_taken_as_it_is_or_refused_by_name(name):
    taken = 0
    for value in HOSTILE:
        try:
            found = RunRecord.from_dict(record().to_dict() | {name: value})
        except ValueError as error:
            assert name in str(error) and len(str(error)) < 400
        else:
            json.dumps(found.to_dict(), allow_nan=False).encode()
            assert hash(found.run) is not None and f"{found.step:,} {found.seconds:.1f} {found.seed:,}"
            taken += 1
    assert taken < len(HOSTILE) - 5


@pytest.mark.parametrize(("name", "value"), [
    ("created", "yesterday"), ("seconds", "3"), ("final", {"a": "b"}), ("final", {"a": float("inf")}), ("pid", 2**40),
    ("seed", 2**63), ("scores", [{"name": "a"}]), ("scores", [3]), ("status", "interrupted"), ("status", "odd"),
    ("versions", {"python": 3}), ("parameters", {"total": -5}), ("finished", float("nan")), ("n_future", 0),
])  # fmt: skip
def test_wrong_values_are_refused(name, value):
    with pytest.raises(ValueError, match=f"its {name} is"):
        RunRecord.from_dict(record().to_dict() | {name: value})


def test_a_record_of_the_first_format_is_read(tmp_path):
    values = record().to_dict()
    for name in ("format", "files", "probe_seconds", "replicas"):
        del values[name]
    assert RunRecord.from_dict(values).format == 1


@pytest.mark.parametrize(("value", "folder"), [("elsewhere/runs", "elsewhere/runs"), ("", "runs"), (None, "runs")])
def test_the_environment_names_the_folder_of_runs(monkeypatch, value, folder):
    monkeypatch.delenv("PLAYGROUND_RUNS_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("PLAYGROUND_RUNS_DIR", value)
    assert default_runs_dir() == Path(folder)


def test_a_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().status = "failed"
