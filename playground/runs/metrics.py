"""`metrics.jsonl`: the rows that training writes, read into compact columns of numbers to save memory.

A row is of kind "train" (losses) or "eval" (test loss per offset, scores). It has step, tokens and seconds; all values are
numbers, or null where a value was not finite. Needs no torch.
"""

import itertools
from array import array
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
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
    note_bad,
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
"""Bound of the size of a table: rows times columns."""
CHUNK = 4096
"""Number of rows that are checked at once."""
Columns = Mapping[str, Any] | pd.DataFrame
"""Columns by name: a mapping of arrays, or a table (with few rows, access to a table's column is ten times as slow)."""


@dataclass(frozen=True, eq=False)
class Metrics:
    """The rows of one run, and the lines that could not be read. Of rows with equal kind and step, the last one counts."""

    columns: Mapping[str, Any]
    """`kind`, `step` (ascending), `tokens`, `seconds`, then an array for each other name, NaN where a row lacks it."""
    bad: tuple[BadLine, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["step"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """The columns as a table."""
        return pd.DataFrame(self.columns, copy=False)


class _Columns:
    """Rows collected as columns, each a compact array."""

    def __init__(self) -> None:
        self.count = 0
        self.kinds = array("b")
        self.whole = {"step": array("q"), "tokens": array("q")}
        self.others: dict[str, array[float]] = {"seconds": array("d")}
        self.names = {"kind", *self.whole, *self.others}

    def add(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Append rows if all of them are valid; False, and nothing appended, otherwise.

        The check is by column, which is three times as fast as row by row.
        """
        names = dict.fromkeys(itertools.chain.from_iterable(rows))
        if self.problem(names.keys(), len(rows)):
            return False
        columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
        kinds, whole = columns.pop("kind", []), [columns.pop(name, []) for name in self.whole]
        if not (set(map(type, kinds)) == {str} and set(kinds) <= set(KINDS) and all(map(_are_counts, whole))):
            return False
        others = {name: numbers for name, values in columns.items() if (numbers := _numbers(values)) is not None}
        if len(others) < len(columns):
            return False
        self.names |= names.keys()
        self.kinds.extend(map(KINDS.index, kinds))
        for column, values in zip(self.whole.values(), whole, strict=True):
            column.extend(values)
        for name, values in others.items():
            column = self.others.setdefault(name, array("d"))
            _fill(column, self.count)
            column.frombytes(values.tobytes())
        self.count += len(rows)
        return True

    def problem(self, names: Set[str], rows: int) -> str:
        """Error text if the table would be too large with `rows` further rows that have these names; else empty."""
        count = len(self.names | names)
        if count > MOST_NAMES:
            return "it has too many names"
        return f"at most {MOST_VALUES:,} values are read" if (self.count + rows) * count > MOST_VALUES else ""

    def arrays(self) -> dict[str, Any]:
        """The columns, sorted by step; of rows with equal kind and step, only the last one."""
        kinds, steps = np.frombuffer(self.kinds, np.int8), np.frombuffer(self.whole["step"], np.int64)
        columns: dict[str, Any] = {"kind": pd.Categorical.from_codes(kinds, dtype=KIND)}
        columns |= {name: np.frombuffer(column, np.int64) for name, column in self.whole.items()}
        for name, column in self.others.items():
            _fill(column, self.count)
            columns[name] = np.frombuffer(column, np.float64)
        again = any((np.diff(steps[kinds == code]) <= 0).any() for code in range(len(KINDS)))
        if again or (np.diff(steps) < 0).any():
            table = pd.DataFrame(columns, copy=False).drop_duplicates(["kind", "step"], keep="last")
            table = table.sort_values("step", kind="stable", ignore_index=True)
            columns = {name: table[name].array if name == "kind" else table[name].to_numpy() for name in columns}
        return columns


def _fill(column: "array[float]", count: int) -> None:
    """Pad a column with NaN up to `count` rows, for rows that lack it."""
    if len(column) < count:
        column.frombytes(np.full(count - len(column), np.nan).tobytes())


def _are_counts(values: list[Any]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= MOST_NUMBER


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """The values of a column with NaN for None; None if a value is not a finite number."""
    types = set(map(type, values))
    if not types <= {float, NoneType} and not all(value is None or is_number(value) for value in values):
        return None
    numbers = np.array(values, dtype=np.float64)
    return None if np.isinf(numbers).any() else numbers


def of_kind(columns: Columns, kind: str) -> NDArray[np.bool_]:
    """Mask `[row]`: True for rows of a kind."""
    return np.asarray(columns["kind"] == kind, dtype=bool)


def numbers_of(columns: Columns, name: str, kind: str) -> NDArray[np.float64] | None:
    """A column, in the rows of one kind, NaN where there is no number; None if there is no such column of numbers."""
    if name not in columns or name == "kind":
        return None
    values = columns[name]
    numbers = values if values.dtype == np.float64 else pd.to_numeric(values, errors="coerce")
    return np.asarray(numbers, dtype=np.float64)[of_kind(columns, kind)]


NO_METRICS = Metrics(_Columns().arrays())
"""The metrics of a run without rows."""


def read_metrics(path: Path) -> Metrics:
    """The rows in the file `path`; none if it is missing. Raises Denied, or Damaged if it is not a regular file."""
    columns, bad = _Columns(), list[BadLine]()
    lines = ((number, line) for number, line in numbered_lines(path) if line.strip())
    while chunk := list(itertools.islice(lines, CHUNK)):
        try:
            added = columns.add([parse_object(line) for _, line in chunk])
        except ValueError:
            added = False
        if not added:
            _add_good(columns, chunk, bad)
    return Metrics(columns.arrays(), tuple(bad))


def _add_good(columns: _Columns, chunk: Sequence[tuple[int, bytes]], bad: list[BadLine]) -> None:
    """Append the valid lines of a chunk, and add the others to `bad`."""
    good: list[dict[str, Any]] = []
    for number, line in chunk:
        row, problem = parse_line(line, _problem)
        if row is not None:
            problem = columns.problem(row.keys(), len(good) + 1)
        if row is not None and not problem:
            columns.names |= row.keys()
            good.append(row)
        else:
            note_bad(bad, number, line, problem)
    columns.add(good)


def _problem(row: dict[str, Any]) -> str:
    """Error text for an invalid row; empty for a valid one."""
    if row.get("kind") not in KINDS:
        return "its kind is neither train nor eval"
    if problem := position_problem(row):
        return problem
    for name, value in row.items():
        if value is not None and not is_number(value) and name != "kind":
            return f"its {name[:40]} is no finite number"
    return ""
