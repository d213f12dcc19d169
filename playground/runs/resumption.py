"""Lines of metrics and probes after the step from which a run resumes: moved to `set-aside` until they are written again."""

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
    """The files of a run to which lines are appended."""
    return [run / METRICS, *probe_files(run)]


def check_layout(run: Path) -> None:
    """Raises Damaged if a folder that training writes to is not a folder, or a file is not a regular file."""
    for name in (FOLDER, SET_ASIDE, "checkpoints"):
        path = run / name
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise Damaged(f"{path} is not a folder; remove it")
    for path in lines_files(run):
        with contextlib.suppress(Absent):
            open_regular(path).close()


def set_lines_aside(run: Path, step: int) -> None:
    """Move the lines after `step` of metrics and probes into the folder `set-aside`, because a resumed run writes them again.

    They stay there until the run has finished. Lines that cannot be read stay with the line before them.
    """
    for path in lines_files(run):
        kept, later = split_lines(path, lambda row: row["step"] <= step)
        if not later:
            continue
        # Copy and fsync first, then remove from the original: a kill in between duplicates lines, but never loses any.
        aside = run / SET_ASIDE / path.name
        aside.parent.mkdir(exist_ok=True)
        with aside.open("ab") as file:
            file.writelines(line for line, _ in later)
        sync_file(aside)
        replace_file(path, [line for line, _ in kept])


def drop_set_aside(run: Path) -> None:
    """Remove the lines in `set-aside` that have been written again; lines that cannot be read stay there."""
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
    """Identity of a row within its file: kind and step."""
    return str(row.get("kind", "")), row["step"]


def sync_lines(run: Path) -> None:
    """Fsync all appended lines. Must run before a checkpoint, which relies on them when the run resumes."""
    for path in lines_files(run):
        if path.exists():
            sync_file(path)
