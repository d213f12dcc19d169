"""What probes measured, in a run: `probes/<name>.jsonl`, one line a step. Needs no torch."""

import json
import os
from pathlib import Path
from typing import Any

from playground.results import Result
from playground.runs.record import append_line, read_lines

FOLDER = "probes"


def probe_file(run: Path, name: str) -> Path:
    """Where the results of one probe are stored."""
    return run / FOLDER / f"{name}.jsonl"


def probe_files(run: Path) -> list[Path]:
    """The files of all probes of a run that have measured anything."""
    return sorted((run / FOLDER).glob("*.jsonl"))


def store_result(run: Path, name: str, result: Result, *, step: int, tokens: int) -> None:
    """Add what a probe measured at one step, behind the steps before it."""
    path = probe_file(run, name)
    path.parent.mkdir(exist_ok=True)
    append_line(path, {"step": step, "tokens": tokens} | result.to_dict())


def insert_result(run: Path, name: str, result: Result, *, step: int, tokens: int) -> None:
    """Put what a probe measured at one step where it belongs, in place of what stood there for that step.

    The file is replaced in one step: a reader sees the old lines or the new.
    """
    path = probe_file(run, name)
    path.parent.mkdir(exist_ok=True)
    rows = [row for row in read_lines(path) if row["step"] != step]
    rows.append({"step": step, "tokens": tokens} | result.to_dict())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows.sort(key=lambda row: row["step"])
    temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    os.replace(temporary, path)


def stored_rows(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one probe, each with `step`, `tokens` and the fields of its result; none when it has not run."""
    return read_lines(probe_file(run, name))
