"""`run.json` and the JSON lines: round trips, files that are whole at every moment, states of runs."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.results import ScoreInfo
from playground.runs.record import (
    RunRecord,
    append_line,
    default_runs_dir,
    keep_lines_until,
    read_lines,
    this_process,
    write_json,
)
from tests.fake_runs import GONE

SCORES = tuple(
    ScoreInfo(name=name, chance=0.1, ceiling=1.0, unit="share", higher_is_better=True) for name in ("first", "second")
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["loss_1", "név", "kind"]), st.floats(-1e9, 1e9) | st.none() | st.text(max_size=3)),
    max_size=5,
)


def record(**changes) -> RunRecord:
    parts = {"run": "r", "status": "finished", "task": "induction", "preset": None, "n_future": 2, "control": "layers",
             "seed": 3, "config_hash": "01234567", "steps": 100}  # fmt: skip
    return RunRecord(**(parts | changes))


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends where a finished temporary file would take its place."""

    def killed(*_paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("playground.runs.record.os.replace", killed)


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
    with pytest.raises(TypeError, match=key):
        RunRecord.from_dict(values)


def test_this_process_is_alive():
    values = this_process()
    assert values == {"pid": os.getpid(), "pid_started": psutil.Process().create_time(), "host": socket.gethostname()}
    assert record(status="running", **values).alive


def test_a_process_that_has_ended_and_waits_for_its_parent_is_not_alive():
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    values = {"host": socket.gethostname(), "pid": child.pid, "pid_started": process.create_time()}
    assert record(status="running", **values).state == "running"
    child.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert record(status="running", **values).state == "interrupted"
    child.communicate()


HERE = {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": psutil.Process().create_time()}
PROCESSES = {
    "this process": (HERE, True),
    "a process that is gone": (HERE | {"pid": GONE}, False),
    "a later process with the same number": (HERE | {"pid_started": 1000.0}, False),
    "another machine a minute ago": ({"host": "elsewhere", "pid": GONE, "ago": 60}, True),
    "another machine an hour ago": ({"host": "elsewhere", "pid": os.getpid(), "ago": 3600}, False),
}


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
@pytest.mark.parametrize("process", PROCESSES)
def test_a_run_says_running_only_while_its_process_is_there(process, status):
    values, alive = PROCESSES[process]
    values = dict(values)
    found = record(status=status, updated=time.time() - values.pop("ago", 0), **values)
    assert found.alive == alive
    assert found.state == ("interrupted" if status == "running" and not alive else status)


@pytest.mark.parametrize(("value", "folder"), [("elsewhere/runs", "elsewhere/runs"), ("", "runs"), (None, "runs")])
def test_the_environment_names_the_folder_of_runs(monkeypatch, value, folder):
    monkeypatch.delenv("PLAYGROUND_RUNS_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("PLAYGROUND_RUNS_DIR", value)
    assert default_runs_dir() == Path(folder)


def test_a_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().status = "failed"


# --- files that are replaced in one step --------------------------------------------------------------------------


def test_write_json_round_trip_leaves_one_file(tmp_path):
    for values in ({"a": [1, None, "ü"]}, {"b": 2.5}):
        write_json(tmp_path / "run.json", values)
        assert json.loads((tmp_path / "run.json").read_text()) == values
        assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_write_interrupted_before_the_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_json(path, {"step": 1})
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(KeyboardInterrupt):
            write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}
    write_json(path, {"step": 3})
    assert json.loads(path.read_text()) == {"step": 3}
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"step": 1})
    with pytest.raises(TypeError):
        write_json(path, {"step": object()})
    assert json.loads(path.read_text()) == {"step": 1}


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, [0] * 1000)
    writes = threading.Event()

    def write() -> None:
        for number in range(1, 150):
            write_json(path, [number] * 5000)
        writes.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not writes.is_set() or seen == 0:
        values = json.loads(path.read_text())
        assert len(set(values)) == 1
        seen += 1
    writer.join()


# --- JSON lines -----------------------------------------------------------------------------------------------------


def test_a_missing_file_has_no_lines_and_is_not_made(tmp_path):
    assert read_lines(tmp_path / "metrics.jsonl") == []
    keep_lines_until(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())


@settings(deadline=None)
@given(ROWS, st.data())
def test_a_file_cut_at_any_byte_gives_the_lines_that_are_whole(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    ends = []
    for row in rows:
        append_line(path, row)
        ends.append(path.stat().st_size - 1)
    assert read_lines(path) == rows
    if rows:
        cut = data.draw(st.integers(0, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        assert read_lines(path) == [row for row, end in zip(rows, ends, strict=True) if end <= cut]


STEPS = st.lists(st.integers(0, 20), max_size=8).map(sorted)


@settings(deadline=None)
@given(STEPS, st.integers(-1, 21))
def test_keep_lines_until_drops_exactly_what_comes_later(tmp_path_factory, steps, last):
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    for step in steps:
        append_line(path, {"step": step, "loss_1": step / 3})
    keep_lines_until(path, last)
    assert read_lines(path) == [{"step": step, "loss_1": step / 3} for step in steps if step <= last]


def test_after_keep_lines_until_a_cut_line_no_longer_spoils_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    keep_lines_until(path, 2)
    append_line(path, {"step": 2})
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    assert path.read_text().endswith("\n")


def test_keep_lines_until_interrupted_before_the_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    for step in range(4):
        append_line(path, {"step": step})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(KeyboardInterrupt):
            keep_lines_until(path, 1)
    assert path.read_bytes() == before
    keep_lines_until(path, 1)
    assert len(read_lines(path)) == 2
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.jsonl"]
