"""`metrics.jsonl`: the rows that training writes, read into columns of numbers, so that size costs little memory.

A row is of kind "train" (losses) or "eval" (test loss per offset, scores), says where it stands (step, tokens, seconds), and
holds numbers, or null for what was not finite. Needs no torch.
"""

import itertools
from array import array
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from playground.runs.reading import (
    MOST_NUMBER,
    BadLine,
    is_number,
    numbered_lines,
    parse_line,
    parse_object,
    position_problem,
)

FILE = "metrics.jsonl"
KINDS = ("train", "eval")
KIND = pd.CategoricalDtype(list(KINDS))
MOST_NAMES = 2000
MOST_VALUES = 10**8
"""Of a table: rows times columns."""
CHUNK = 4096
"""Rows that are checked at once."""
NO_ROWS = pd.DataFrame(columns=["kind", "step", "tokens", "seconds"])


@dataclass(frozen=True)
class Metrics:
    """The rows of one run, and the lines that could not be read."""

    table: pd.DataFrame
    """`kind`, `step`, `tokens`, `seconds`, then a column for each other name, NaN where a row does not have it."""
    bad: tuple[BadLine, ...] = ()


class _Columns:
    """Rows taken apart into columns, each a compact array."""

    def __init__(self) -> None:
        self.count = 0
        self.kinds = array("b")
        self.whole = {"step": array("q"), "tokens": array("q")}
        self.others: dict[str, array[float]] = {"seconds": array("d")}
        self.names = {"kind", *self.whole, *self.others}

    def add(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Append rows if all of them are good, which is found out by columns: three times as fast as row by row."""
        names = dict.fromkeys(itertools.chain.from_iterable(rows))
        columns = {name: [row.get(name) for row in rows] for name in names}
        kinds, whole = columns.pop("kind", []), [columns.pop(name, []) for name in self.whole]
        if not (set(map(type, kinds)) == {str} and set(kinds) <= set(KINDS) and all(map(_are_counts, whole))):
            return False
        others = {name: _numbers(values) for name, values in columns.items()}
        if any(values is None for values in others.values()):
            return False
        if self.take(names.keys(), len(rows)):
            return False
        self.kinds.extend(map(KINDS.index, kinds))
        for column, values in zip(self.whole.values(), whole, strict=True):
            column.extend(values)
        for name, values in others.items():
            column = self.others.setdefault(name, array("d"))
            _fill(column, self.count)
            column.frombytes(values.tobytes())
        self.count += len(rows)
        return True

    def take(self, names: Set[str], rows: int) -> str:
        """Make the names of so many rows to come known; what is said where they are too much."""
        all_names = self.names if names <= self.names else self.names | names
        if len(all_names) > MOST_NAMES:
            return "it has too many names"
        if (self.count + rows) * len(all_names) > MOST_VALUES:
            return f"at most {MOST_VALUES:,} values are read"
        self.names = all_names
        return ""

    def table(self) -> pd.DataFrame:
        """The rows as a table; of rows of one kind and step the later one stands, and steps ascend."""
        columns: dict[str, Any] = {"kind": pd.Categorical.from_codes(np.frombuffer(self.kinds, np.int8), dtype=KIND)}
        columns |= {name: np.frombuffer(column, np.int64) for name, column in self.whole.items()}
        for name, column in self.others.items():
            _fill(column, self.count)
            columns[name] = np.frombuffer(column, np.float64)
        table = pd.DataFrame(columns, copy=False)
        if (np.diff(columns["step"]) < 0).any():
            table = table.drop_duplicates(["kind", "step"], keep="last")
            table = table.sort_values("step", kind="stable", ignore_index=True)
        return table


def _fill(column: "array[float]", count: int) -> None:
    """NaN for rows that do not have the column."""
    if len(column) < count:
        column.frombytes(np.full(count - len(column), np.nan).tobytes())


def _are_counts(values: list[Any]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= MOST_NUMBER


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """Values of a column, NaN for None; None where one is no finite number."""
    types = set(map(type, values))
    if not types <= {float, NoneType} and not all(value is None or is_number(value) for value in values):
        return None
    numbers = np.array(values, dtype=np.float64)
    return None if np.isinf(numbers).any() else numbers


def of_kind(table: pd.DataFrame, kind: str) -> NDArray[np.bool_]:
    """Which rows of a table are of a kind. To index columns with it is six times as fast as `table[table["kind"] == kind]`."""
    return np.asarray(table["kind"].array == kind, dtype=bool)


def read_metrics(path: Path) -> Metrics:
    """The rows in the file `path`; none where it is missing. Raises Denied, or Damaged for no regular file."""
    columns, bad = _Columns(), list[BadLine]()
    lines = ((number, line) for number, line in numbered_lines(path) if line.strip())
    while chunk := list(itertools.islice(lines, CHUNK)):
        try:
            added = columns.add([parse_object(line) for _, line in chunk])
        except ValueError:
            added = False
        if not added:
            _add_good(columns, chunk, bad)
    return Metrics(columns.table() if columns.count else NO_ROWS, tuple(bad))


def _add_good(columns: _Columns, chunk: Sequence[tuple[int, bytes]], bad: list[BadLine]) -> None:
    """Append the good ones of numbered lines, and add the others to `bad`."""
    good: list[dict[str, Any]] = []
    for number, line in chunk:
        row, problem = parse_line(line, _problem)
        if row is not None:
            problem = columns.take(row.keys(), len(good) + 1)
        if row is not None and not problem:
            good.append(row)
        elif line.endswith(b"\n"):
            bad.append(BadLine(number, problem))
    columns.add(good)


def _problem(row: dict[str, Any]) -> str:
    """What is wrong with a row, or nothing."""
    if row.get("kind") not in KINDS:
        return "its kind is neither train nor eval"
    if problem := position_problem(row):
        return problem
    for name, value in row.items():
        if value is not None and not is_number(value) and name != "kind":
            return f"its {name[:40]} is no finite number"
    return ""
