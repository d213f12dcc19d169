"""Stored results of probes: `probes/<name>.jsonl` in a run's folder, one line per step. Needs no torch."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from playground.config import ModelConfig
from playground.results import Head, History, Result
from playground.results.base import ResultT
from playground.runs.errors import Absent
from playground.runs.reading import BadLine, iterate_lines, open_regular, parse_line, position_problem
from playground.runs.writing import append_line, replace_file

FOLDER = "probes"


def probe_file(run: Path, name: str) -> Path:
    """Path of the results of one probe."""
    return run / FOLDER / f"{name}.jsonl"


def probe_files(run: Path) -> list[Path]:
    """The files of all probes that have stored results in a run."""
    return sorted((run / FOLDER).glob("*.jsonl"))


def store_result(run: Path, name: str, result: Result, *, step: int, tokens: int) -> None:
    """Append the result of a probe at one step; steps must ascend."""
    path = probe_file(run, name)
    path.parent.mkdir(exist_ok=True)
    append_line(path, {"step": step, "tokens": tokens} | result.to_dict())


def insert_result(run: Path, name: str, result: Result, *, step: int, tokens: int) -> None:
    """Insert the result of a probe at its place by step; it replaces earlier results of that step.

    The file is replaced atomically: a reader sees the old lines or the new ones. Lines that cannot be read are kept.
    """
    path = probe_file(run, name)
    path.parent.mkdir(exist_ok=True)
    own = json.dumps({"step": step, "tokens": tokens} | result.to_dict(), allow_nan=False).encode() + b"\n"
    before, after = split_lines(path, lambda row: row["step"] < step)
    kept = [line for line, row in after if row is None or row["step"] != step]
    replace_file(path, [*(line for line, _ in before), own, *kept])


Line = tuple[bytes, dict[str, Any] | None]
"""A line with its newline, and its row, or None if it cannot be read."""


def split_lines(path: Path, belongs: Callable[[dict[str, Any]], bool]) -> tuple[list[Line], list[Line]]:
    """Split a .jsonl file into the lines for whose row `belongs` is True, and the others.

    A line that cannot be read goes with the line before it. A last line that was cut by a kill goes to the others. A missing
    file has no lines.
    """
    parts: tuple[list[Line], list[Line]] = ([], [])
    try:
        file = open_regular(path)
    except Absent:
        return parts
    place = 0
    with file:
        for line in file:
            row, _ = parse_line(line, position_problem)
            whole = line.endswith(b"\n")
            if row is not None:
                place = 0 if belongs(row) else 1
            elif not whole:
                place = 1
            parts[place].append((line if whole else line + b"\n", row))
    return parts


@dataclass(frozen=True)
class Stored(Generic[ResultT]):
    """Stored results of a probe, and the lines that could not be read."""

    history: History[ResultT]
    bad: tuple[BadLine, ...] = ()


def read_history(
    run: Path, name: str, result: type[ResultT], model: Mapping[str, Any] | None = None, steps: int | None = None
) -> Stored[ResultT]:
    """The results of one probe during training; empty if it has not run.

    `model` (fields of the run's ModelConfig) bounds the heads and offsets, `steps` the steps. Every line is checked: types,
    sizes, and that all lines have equal sizes. Of two lines of one step, the later one counts. Raises Denied, or Damaged if the
    file is not a regular file.
    """
    reader, bad = _Reader(result, model, steps), list[BadLine]()
    for row in iterate_lines(probe_file(run, name), reader.problem, bad):
        reader.found[row["step"]] = (row["tokens"], reader.last)
    stored = tuple(sorted(reader.found))
    tokens, results = (tuple(reader.found[step][place] for step in stored) for place in (0, 1))
    return Stored(History(steps=stored, tokens=tokens, results=results), tuple(bad))  # type: ignore[arg-type]


class _Reader(Generic[ResultT]):
    """Converts the rows of one probe's file to results, and checks that all have one shape."""

    def __init__(self, result: type[ResultT], model: Mapping[str, Any] | None, steps: int | None) -> None:
        self.result, self.steps = result, steps
        self.model = None if model is None else _known(model)
        self.last: Any = None
        self.shape: dict[str, Any] | None = None
        self.found: dict[int, tuple[int, Any]] = {}

    def problem(self, row: dict[str, Any]) -> str:
        """Error text for an invalid row; empty for a valid one, whose result is then in `last`."""
        if wrong := position_problem(row):
            return wrong
        if self.steps is not None and row["step"] > self.steps:
            return f"it is of step {row['step']}, and the run has {self.steps} steps"
        self.last = self.result.from_dict(row)
        if self.model is not None and (wrong := _misfit(self.last, self.model)):
            return wrong
        shape = {name: size for name, size in self.last.sizes.items() if name not in VARYING} | _names(self.last)
        if self.shape is None:
            self.shape = shape
        return "" if shape == self.shape else "it was measured on another model than the first line"


VARYING = ("batch", "row", "draw", "position", "ablated", "component")
"""Axes whose length may differ from one step to the next."""


def _names(result: Result) -> dict[str, Any]:
    """The labels on the axes of a result: layers, heads and the like, by field name."""
    fields = ("layers", "heads", "senders", "receivers", "sites", "targets")
    return {name: getattr(result, name) for name in fields if hasattr(result, name) and name in result.dims}


def _known(model: Mapping[str, Any]) -> ModelConfig | None:
    names = {item.name for item in dataclasses.fields(ModelConfig)}
    try:
        return ModelConfig(**{key: value for key, value in model.items() if key in names})
    except (TypeError, ValueError):
        return None


def _misfit(result: Result, model: ModelConfig) -> str:
    """Error text for a layer, head or offset of a result that the model does not have; empty if there is none."""
    layers = set(model.attention_layers)
    for value in vars(result).values():
        for item in value if isinstance(value, tuple) else ():
            if isinstance(item, Head) and (item.layer not in layers or item.index >= model.n_heads):
                return f"the model has no head {item}"
    named = getattr(result, "layers", ())
    if not set(named) <= layers:
        return f"the model has no layer {min(set(named) - layers)}"
    axes = result.sizes
    if "layer" in axes and axes.get("head", model.n_heads) != model.n_heads:
        return f"the model has {model.n_heads} heads in a layer"
    return "" if axes.get("offset", model.n_future) == model.n_future else f"the model has {model.n_future} offsets"
