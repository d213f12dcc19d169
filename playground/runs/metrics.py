"""`metrics.jsonl`: the rows that training writes, read line by line into columns of numbers, so that size costs little memory.

A row is of kind "train" (losses) or "eval" (test loss per offset, scores), says where it stands (step, tokens, seconds), and
holds numbers, or null for what was not finite. Needs no torch.
"""

import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from playground.runs.reading import BadLine, is_number, iterate_lines, position_problem

FILE = "metrics.jsonl"
KINDS = ("train", "eval")
MOST_COLUMNS = 2000
MOST_FLOAT = sys.float_info.max
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
        self.last_names: set[str] = set()

    def problem(self, row: dict[str, Any]) -> str:
        """What is wrong with a row, or nothing."""
        if row.get("kind") not in KINDS:
            return "its kind is neither train nor eval"
        if problem := position_problem(row):
            return problem
        for name, value in row.items():
            # The usual case first, and without a call: a file may have a million rows.
            usual = type(value) is float and -MOST_FLOAT <= value <= MOST_FLOAT
            if not (usual or value is None or name == "kind" or is_number(value)):
                return f"its {name[:40]} is no finite number"
        if row.keys() == self.last_names:
            return ""
        self.last_names = row.keys() | set()
        fresh = sum(name not in self.others for name in row) - 3
        return "it has too many names" if fresh + len(self.others) > MOST_COLUMNS else ""

    def add(self, row: dict[str, Any]) -> None:
        """Append a good row."""
        self.kinds.append(KINDS.index(row.pop("kind")))
        for name, column in self.whole.items():
            column.append(row.pop(name))
        for name, value in row.items():
            column = self.others.get(name)
            if column is None:
                column = self.others[name] = array("d")
            if len(column) < self.count:
                column.extend([float("nan")] * (self.count - len(column)))
            column.append(float("nan") if value is None else value)
        self.count += 1

    def table(self) -> pd.DataFrame:
        """The rows as a table; of rows of one kind and step the later one stands, and steps ascend."""
        kinds = pd.Categorical.from_codes(np.frombuffer(self.kinds, np.int8), categories=list(KINDS))
        columns: dict[str, Any] = {"kind": kinds}
        columns |= {name: np.frombuffer(column, np.int64) for name, column in self.whole.items()}
        for name, column in self.others.items():
            column.extend([float("nan")] * (self.count - len(column)))
            columns[name] = np.frombuffer(column, np.float64)
        table = pd.DataFrame(columns, copy=False)
        if not table["step"].is_monotonic_increasing:
            table = table.drop_duplicates(["kind", "step"], keep="last")
            table = table.sort_values("step", kind="stable", ignore_index=True)
        return table


def read_metrics(path: Path) -> Metrics:
    """The rows in the file `path`; none where it is missing. Raises Denied, or Damaged for no regular file."""
    columns, bad = _Columns(), list[BadLine]()
    for row in iterate_lines(path, columns.problem, bad):
        columns.add(row)
    return Metrics(columns.table() if columns.count else NO_ROWS, tuple(bad))
