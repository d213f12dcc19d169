"""What becomes of a run's lines when it goes on from an earlier step: they are set aside until they have been written again."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.runs.errors import Absent, Damaged
from playground.runs.metrics import FILE as METRICS
from playground.runs.probes import FOLDER, probe_files, split_lines
from playground.runs.reading import open_regular
from playground.runs.writing import replace_file, sync_file

SET_ASIDE = "set-aside"


def lines_files(run: Path) -> list[Path]:
    """The files of a run that lines are appended to."""
    return [run / METRICS, *probe_files(run)]


def check_layout(run: Path) -> None:
    """Raises Damaged where something else stands in the place of a folder or file that a training writes to."""
    for name in (FOLDER, SET_ASIDE, "checkpoints"):
        path = run / name
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise Damaged(f"{path} is no folder; remove it")
    for path in lines_files(run):
        with contextlib.suppress(Absent):
            open_regular(path).close()


def set_lines_aside(run: Path, step: int) -> None:
    """Move the lines after `step` of metrics and probes into the folder `set-aside`, so that a resumed run writes them once.

    They are in one place or the other at any moment, and stay there until the run has finished. Lines that cannot be read stay
    with the line before them.
    """
    for path in lines_files(run):
        kept, later = split_lines(path, lambda row: row["step"] <= step)
        if not later:
            continue
        aside = run / SET_ASIDE / path.name
        aside.parent.mkdir(exist_ok=True)
        with aside.open("ab") as file:
            file.writelines(line for line, _ in later)
        sync_file(aside)
        replace_file(path, [line for line, _ in kept])


def drop_set_aside(run: Path) -> None:
    """Remove the lines that were set aside and have been written again; lines that cannot be read stay there."""
    folder = run / SET_ASIDE
    if not folder.is_dir():
        return
    for path in lines_files(run):
        aside = folder / path.name
        lines, _ = split_lines(aside, lambda _row: True)
        again = {_place(row) for line in split_lines(path, lambda _row: True) for _, row in line if row is not None}
        left = [line for line, row in lines if row is None or _place(row) not in again]
        if left:
            replace_file(aside, left)
        else:
            aside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    """Which row of a file it is."""
    return str(row.get("kind", "")), row["step"]


def sync_lines(run: Path) -> None:
    """Force all appended lines to the disk: before a checkpoint that counts on them."""
    for path in lines_files(run):
        if path.exists():
            sync_file(path)
