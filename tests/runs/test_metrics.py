"""metrics.jsonl read by columns, a chunk at a time, against a plain reading row by row; and what a large file may cost."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.runs import metrics
from playground.runs.metrics import KINDS, NO_METRICS, numbers_of, of_kind, read_metrics
from playground.runs.reading import MOST_BAD, MOST_NUMBER, bad_lines, is_number

BIG = 10 * 2**20
"""Bytes of a file that is large for a test."""


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def slowly(rows: list[Any]) -> tuple[dict[str, list[Any]], list[int]]:
    """The columns of the good rows, and the numbers of the others, counted from 1."""
    good, bad = [], []
    for number, row in enumerate(rows, start=1):
        counts = [row.get(name) for name in ("step", "tokens")]
        numbers = [value for name, value in row.items() if name != "kind" and value is not None]
        fine = row.get("kind") in KINDS and all(type(count) is int and 0 <= count <= MOST_NUMBER for count in counts)
        if fine and all(map(is_number, numbers)):
            good.append(row)
        else:
            bad.append(number)
    last = {(row["kind"], row["step"]): number for number, row in enumerate(good)}
    good = sorted((good[number] for number in sorted(last.values())), key=lambda row: row["step"])
    names = dict.fromkeys(["kind", "step", "tokens", "seconds", *(name for row in rows_of(rows, bad) for name in row)])
    return {name: [row.get(name) for row in good] for name in names}, bad


def rows_of(rows: list[Any], bad: list[int]) -> list[Any]:
    return [row for number, row in enumerate(rows, start=1) if number not in bad]


def same(column: Any, values: list[Any]) -> bool:
    if isinstance(column, pd.Categorical):
        return list(column) == values
    expected = [math.nan if value is None else value for value in values]
    return len(column) == len(expected) and all(
        a == b or (a != a and b != b) for a, b in zip(column, expected, strict=True)
    )


VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-5, 5),
    st.none(),
    st.sampled_from([True, "x", [], 2**63, 10**400]),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from([*KINDS, *KINDS, *KINDS, "odd", None]), "step": st.integers(-1, 20)},
        optional={"tokens": st.integers(0, 2**63), "seconds": st.floats(0, 9), "loss_1": VALUES, "lr": VALUES},
    ),
    max_size=12,
)


@settings(deadline=None)
@given(ROWS, st.integers(1, 5))
def test_reading_by_columns_gives_what_reading_by_rows_gives(tmp_path_factory, rows, chunk):
    for row in rows:
        row.setdefault("tokens", 5)
    path = write(tmp_path_factory.mktemp("run") / "metrics.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK", chunk)
        found = read_metrics(path)
    columns, bad = slowly(rows)
    assert [line.number for line in found.bad] == bad and all(line.problem for line in found.bad)
    assert list(found.columns) == list(columns)
    assert all(same(found.columns[name], values) for name, values in columns.items())
    assert list(found.table) == list(columns) and len(found.table) == len(found)
    assert found.table["kind"].tolist() == columns["kind"]


def test_steps_ascend_and_the_later_of_two_rows_stands(tmp_path):
    rows = [
        {"kind": kind, "step": step, "tokens": step, "loss_1": value}
        for kind, step, value in [
            ("train", 10, 1.0),
            ("eval", 10, 2.0),
            ("train", 20, 3.0),
            ("train", 20, 4.0),
            ("train", 10, 5.0),
        ]
    ]
    found = read_metrics(write(tmp_path / "metrics.jsonl", rows)).table
    assert found[["kind", "step", "loss_1"]].values.tolist() == [
        ["eval", 10, 2.0],
        ["train", 10, 5.0],
        ["train", 20, 4.0],
    ]


def test_a_column_by_the_kind_of_its_rows(tmp_path):
    rows = [{"kind": kind, "step": i, "tokens": i, "a": i / 2} for i, kind in enumerate(("eval", "train", "eval"))]
    found = read_metrics(write(tmp_path / "metrics.jsonl", rows))
    for columns in (found.columns, found.table, found.table.astype({"a": object})):
        assert of_kind(columns, "eval").tolist() == [True, False, True]
        numbers = numbers_of(columns, "a", "eval")
        assert numbers is not None and numbers.tolist() == [0.0, 1.0]
        assert numbers_of(columns, "b", "eval") is None and numbers_of(columns, "kind", "eval") is None


def test_of_a_run_without_rows_there_are_the_columns_that_every_run_has():
    assert list(NO_METRICS.columns) == ["kind", "step", "tokens", "seconds"] and len(NO_METRICS) == 0
    assert NO_METRICS.table.empty and not of_kind(NO_METRICS.columns, "eval").any()


@pytest.mark.parametrize(
    ("limit", "most", "kept", "says"),
    [("MOST_NAMES", 6, [0, 1, 3], "too many names"), ("MOST_VALUES", 15, [0, 1], "15 values")],
)
def test_rows_that_would_make_a_table_too_large_are_left_out_and_counted(
    tmp_path, monkeypatch, limit, most, kept, says
):
    rows = [{"kind": "train", "step": i, "tokens": i, "a": 1.0} for i in range(4)]
    rows[2] |= {"b": 1.0, "c": 2.0}
    monkeypatch.setattr(metrics, limit, most)
    for chunk in (1, 3, 100):
        monkeypatch.setattr(metrics, "CHUNK", chunk)
        found = read_metrics(write(tmp_path / "metrics.jsonl", rows))
        assert found.table.step.tolist()[: len(kept)] == kept
        assert found.bad[0].number == 3 and says in found.bad[0].problem


def big_rows(number: int) -> dict[str, Any]:
    """A row as training writes it; every fifth is an evaluation."""
    row = {"step": number, "tokens": 4096 * number, "seconds": round(0.03 * number, 4)}
    if number % 5:
        return {
            "kind": "train",
            **row,
            "lr": 0.0010123,
            "grad_norm": 0.51234567,
            "loss_1": 3.123456789,
            "loss_2": 4.2345,
        }
    return {"kind": "eval", **row, "test_loss_1": 3.123456789, "test_loss_2": 4.23456789, "repeat_accuracy": 0.512345}


def mixed_rows(number: int) -> dict[str, Any]:
    """A row whose names come in another order and number each time."""
    names = sorted(f"loss_{(number * 7 + i) % 11}" for i in range(number % 5))
    numbers = dict.fromkeys(names[::-1] if number % 2 else names, number / 3)
    return {"kind": "train", "step": number, "tokens": number} | numbers


def spoiled_rows(number: int) -> dict[str, Any]:
    return big_rows(number) | ({"loss_1": "x"} if number % 100 == 0 else {})


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("make", [big_rows, mixed_rows, spoiled_rows])
def test_a_large_file_costs_little_memory(tmp_path, make):
    path, size, number = tmp_path / "metrics.jsonl", 0, 0
    with path.open("w") as file:
        while size < BIG:
            size += file.write(f"{json.dumps(make(number))}\n")
            number += 1
    tracemalloc.start()
    try:
        found = read_metrics(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) + len(found.bad) == number
    assert peak < 1.5 * size  # 300 MB of 200


def test_lines_of_junk_are_counted_up_to_a_bound(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("junk\n" * (MOST_BAD + 5))
    found = read_metrics(path)
    assert len(found) == 0 and len(found.bad) == MOST_BAD
    assert "10,000 or more lines" in bad_lines(path, found.bad)


def test_columns_are_shared_with_the_table(tmp_path):
    found = read_metrics(write(tmp_path / "metrics.jsonl", [big_rows(1), big_rows(2)]))
    assert np.shares_memory(found.table["loss_1"].to_numpy(), found.columns["loss_1"])
