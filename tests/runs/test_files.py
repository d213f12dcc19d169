"""Writing and reading stored files: replaced in one step, lines that survive kills and damage, strict JSON of regular files."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.runs.errors import Absent, Damaged, Denied
from playground.runs.metrics import read_metrics
from playground.runs.reading import BadLine, iterate_lines, read_json
from playground.runs.resumption import drop_set_aside, set_lines_aside
from playground.runs.writing import append_line, remove_temporaries, write_json
from tests.fake_runs import GONE

ROWS = st.lists(
    st.dictionaries(st.sampled_from(["loss_1", "név", "kind"]), st.floats(-1e9, 1e9) | st.none() | st.text(max_size=3)),
    max_size=5,
)


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends where a finished temporary file would take its place."""

    def killed(*_paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("playground.runs.writing.os.replace", killed)


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


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    for name in (
        f".run.json.{GONE}.tmp",
        f".run.json.{os.getpid()}.tmp",
        ".mine.tmp",
        "run.json",
        ".a.99999999999999999999.tmp",
    ):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", f".run.json.{os.getpid()}.tmp", "run.json"]


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
    assert any_lines(tmp_path / "metrics.jsonl") == []
    set_lines_aside(tmp_path, 3)
    assert not list(tmp_path.iterdir())


@settings(deadline=None)
@given(ROWS, st.data())
def test_a_file_cut_at_any_byte_gives_the_lines_that_are_whole(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    ends = []
    for row in rows:
        append_line(path, row)
        ends.append(path.stat().st_size - 1)
    assert any_lines(path) == rows
    if rows:
        cut = data.draw(st.integers(0, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        assert any_lines(path) == [row for row, end in zip(rows, ends, strict=True) if end <= cut]


STEPS = st.lists(st.integers(0, 20), max_size=8).map(sorted)


@settings(deadline=None)
@given(STEPS, st.integers(-1, 21))
def test_keep_lines_until_drops_exactly_what_comes_later(tmp_path_factory, steps, last):
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    for step in steps:
        append_line(path, {"step": step, "tokens": step, "loss_1": step / 3})
    set_lines_aside(path.parent, last)
    assert any_lines(path) == [{"step": step, "tokens": step, "loss_1": step / 3} for step in steps if step <= last]


def test_after_keep_lines_until_a_cut_line_no_longer_spoils_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    set_lines_aside(path.parent, 2)
    append_line(path, {"step": 2})
    assert any_lines(path) == [{"step": 1}, {"step": 2}]
    assert path.read_text().endswith("\n")


def test_keep_lines_until_interrupted_before_the_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    for step in range(4):
        append_line(path, {"step": step, "tokens": 0})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(KeyboardInterrupt):
            set_lines_aside(path.parent, 1)
    assert path.read_bytes() == before
    set_lines_aside(path.parent, 1)
    assert len(any_lines(path)) == 2
    assert sorted(found.name for found in tmp_path.iterdir()) == ["metrics.jsonl", "set-aside"]


# --- damage -------------------------------------------------------------------------------------------------------------

GOOD = [{"kind": "train", "step": step, "tokens": 10 * step, "seconds": 1.0, "loss_1": step / 3} for step in range(8)]
BAD = {
    "no JSON": b"{\n",
    "half a line": b'{"kind": "train", "ste\n',
    "a list": b"[1, 2]\n",
    "a number": b"3\n",
    "no UTF-8": b"\xff\xfe\n",
    "nested": b"[" * 100_000 + b"\n",
    "no step": b'{"kind": "train", "tokens": 3, "seconds": 1}\n',
    "NUL bytes": b"\0\0\0\n",
    "a step that is text": b'{"kind": "train", "step": "3", "tokens": 3, "seconds": 1}\n',
    "a negative step": b'{"kind": "train", "step": -3, "tokens": 3, "seconds": 1}\n',
    "a step too large": b'{"kind": "train", "step": 99999999999999999999, "tokens": 3, "seconds": 1}\n',
    "digits": b'{"kind": "train", "step": ' + b"9" * 5000 + b', "tokens": 3, "seconds": 1}\n',
    "infinity": b'{"kind": "train", "step": 3, "tokens": 3, "seconds": 1, "loss_1": 1e999}\n',
    "NaN": b'{"kind": "train", "step": 3, "tokens": 3, "seconds": 1, "loss_1": NaN}\n',
    "a loss that is a list": b'{"kind": "train", "step": 3, "tokens": 3, "seconds": 1, "loss_1": [1]}\n',
    "another kind": b'{"kind": "odd", "step": 3, "tokens": 3, "seconds": 1}\n',
    "a kind that is a list": b'{"kind": [], "step": 3, "tokens": 3, "seconds": 1}\n',
}


def with_bad_line(path: Path, bad: bytes) -> None:
    """Eight good rows, with a bad line after the fourth."""
    lines = [json.dumps(row).encode() + b"\n" for row in GOOD]
    path.write_bytes(b"".join([*lines[:4], bad, *lines[4:]]))


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_in_the_middle_hides_no_other_and_is_counted(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    with_bad_line(path, BAD[bad])
    found = read_metrics(path)
    assert found.table.step.tolist() == list(range(8))
    assert found.table.loss_1.tolist() == [row["loss_1"] for row in GOOD]
    assert [line.number for line in found.bad] == [5] and 0 < len(found.bad[0].problem) < 100


@pytest.mark.parametrize("bad", ["half a line", "no UTF-8", "a list", "NUL bytes"])
def test_setting_lines_aside_deletes_nothing_that_was_not_replaced(tmp_path, bad):
    path, aside = tmp_path / "metrics.jsonl", tmp_path / "set-aside" / "metrics.jsonl"
    with_bad_line(path, BAD[bad])
    before = path.read_bytes()
    set_lines_aside(tmp_path, 20)
    assert path.read_bytes() == before and not aside.exists()
    set_lines_aside(tmp_path, 5)
    assert path.read_bytes() + aside.read_bytes() == before
    assert read_metrics(path).table.step.tolist() == [0, 1, 2, 3, 4, 5]
    drop_set_aside(tmp_path)
    assert path.read_bytes() + aside.read_bytes() == before
    append_line(path, GOOD[6])
    drop_set_aside(tmp_path)
    assert [row["step"] for row in any_lines(aside)] == [7]
    append_line(path, GOOD[7])
    drop_set_aside(tmp_path)
    assert not aside.parent.exists()


def test_a_last_line_cut_by_a_kill_spoils_no_later_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, GOOD[0])
    with path.open("ab") as file:
        file.write(b'{"kind": "tra')
    assert read_metrics(path).bad == ()
    append_line(path, GOOD[1])
    found = read_metrics(path)
    assert found.table.step.tolist() == [0, 1] and [line.number for line in found.bad] == [2]


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append_line(path, GOOD[0])
    before, write = path.read_bytes(), os.write
    room = iter([5])

    def full(handle: int, data: bytes) -> int:
        part = next(room, None)
        if part is None:
            raise OSError(28, "No space left on device")
        return write(handle, data[:part])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_line(path, GOOD[1])
    assert path.read_bytes() == before


def test_of_two_rows_of_one_step_the_later_stands_and_steps_ascend(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for row in (GOOD[0], GOOD[2], GOOD[1], GOOD[2] | {"loss_1": 9.0}, GOOD[2] | {"kind": "eval", "loss_1": None}):
        append_line(path, row)
    table = read_metrics(path).table
    assert list(zip(table.kind, table.step, strict=True)) == [("train", 0), ("train", 1), ("train", 2), ("eval", 2)]
    assert table.loss_1.tolist()[:3] == [0.0, 1 / 3, 9.0]


def test_other_names_of_rows_become_columns_with_gaps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, GOOD[0])
    append_line(path, {"kind": "eval", "step": 0, "tokens": 0, "seconds": 1.0, "repeat_accuracy": 0.5})
    append_line(path, GOOD[1])
    table = read_metrics(path).table
    assert table.repeat_accuracy.isna().tolist() == [True, False, True]
    assert table.loss_1.isna().tolist() == [False, True, False]
    assert str(table.step.dtype) == "int64"


# --- what may be read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"null", b'"a"', b'{"a": NaN}', b'{"a": 1', b"\xff", b"[" * 100_000,
                                  b'{"a": ' + b"9" * 5000 + b"}", b"{" + b" " * (5 * 2**20) + b"}"], ids=lambda text: str(text[:12]))  # fmt: skip
def test_json_that_is_no_object_is_damaged_in_a_few_words(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_bytes(text)
    with pytest.raises(Damaged, match=r"run\.json is damaged: ") as raised:
        read_json(path)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "folder"):
        for read in (read_json, any_lines, read_metrics):
            with pytest.raises(Damaged, match=f"{name} is not a regular file"):
                read(tmp_path / name)
    with pytest.raises(Damaged):
        read_json(tmp_path / "loop")
    with pytest.raises(Damaged, match="is not a regular file"):
        read_json(Path("/dev/zero"))


def test_absent_denied_and_damaged_are_three_sentences(tmp_path, monkeypatch):
    with pytest.raises(Absent, match=r"run\.json is missing"):
        read_json(tmp_path / "run.json")

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Denied, match="may not be read by this user"):
        read_json(tmp_path / "run.json")


def any_lines(path: Path) -> list[dict]:
    """The rows of a file, whatever they say."""
    return list(iterate_lines(path, lambda _row: "", list[BadLine]()))
