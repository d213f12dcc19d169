"""Removal of a stored run: only files that belong to a run are deleted, and only while no process uses it."""

import contextlib
import os
import re
import socket
from collections.abc import Collection
from pathlib import Path

from playground.runs.errors import Denied, RunError, reading_error
from playground.runs.lock import LOCK, PROBING, sole_lock
from playground.runs.reading import iterate_lines, position_problem
from playground.runs.record import RunRecord
from playground.runs.store import Run, read_record

_OWN = re.compile(
    r"""config\.json | run\.json | metrics\.jsonl | \.lock | \.probing\.lock | \.(config|run)\.json\.\d+\.tmp
    | \.metrics\.jsonl\.\d+\.tmp | (probes|set-aside)(/\.[a-z_]+\.jsonl\.\d+\.tmp)? | task
    | checkpoints(/(\d+|\.\d+\.(tmp|old))(/\.?(weights\.safetensors|resume\.safetensors|checkpoint\.json)(\.\d+\.tmp)?)?)?
    """,
    re.VERBOSE,
)
"""Paths within a run's folder that belong to the run, besides its .jsonl files and the files of its task."""
TASK_FILES = ("tokenizer.json", "test_set.safetensors", "test_windows.safetensors")
"""Files that tasks store in a run, besides those that the run's record names."""
_LINES = re.compile(r"(probes|set-aside)/[^/]+\.jsonl")


def removable(run: Run, runs_dir: Path, *, force: bool = False) -> None:
    """Raises RunError for a run that must not be removed: a folder that is not a direct child of the runs folder, a symbolic
    link, a run that is being trained or probed (its locks decide), and without `force` a run last trained on another machine.
    """
    path = run.path
    if path.is_symlink():
        raise RunError(f"{path} is a link; remove the run at its real path")
    if path.resolve().parent != runs_dir.resolve() or path.name.startswith("."):
        raise RunError(f"{path} is not a folder directly in {runs_dir}, and only those are removed; write a run id")
    record = read_record(path)
    with sole_lock(path):
        _check_away(record, force=force)


def remove_run(run: Run, runs_dir: Path | None = None, *, force: bool = False) -> list[str]:
    """Delete the files of a run; returns the paths within its folder that do not belong to a run, which are kept.

    Raises RunError for a run that must not be removed (see `removable`; `runs_dir` is by default the parent folder), and Denied
    for a folder that this user may not change.
    """
    removable(run, run.path.parent if runs_dir is None else runs_dir, force=force)
    try:
        with sole_lock(run.path):
            record = read_record(run.path)  # again, under the lock: the run may have been trained since
            _check_away(record, force=force)
            kept = _remove_files(run.path, record)
            for name in (LOCK, PROBING):
                (run.path / name).unlink(missing_ok=True)
    except OSError as error:
        raise reading_error(Path(error.filename or run.path), error) from error
    with contextlib.suppress(OSError):
        run.path.rmdir()
    return kept


def _check_away(record: RunRecord, *, force: bool) -> None:
    if record.status == "running" and record.host != socket.gethostname() and not force:
        raise RunError(
            f"run {record.run} was last trained on another machine ({record.host}), whose locks may not be visible here; "
            "remove it there, or write --force if you know that it has ended"
        )


def _remove_files(root: Path, record: RunRecord) -> list[str]:
    """Delete the files that belong to a run; returns the other paths.

    run.json is deleted last, so that an interrupted removal can be repeated. Raises Denied before anything is deleted if a
    folder may not be changed.
    """
    own, kept = _sorted_out(root, record)
    for folder in {path.parent for path in own} | {root.parent}:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise Denied(
                f"{folder} may not be changed by this user, so nothing was removed; ask its owner for write access"
            )
    last = root / "run.json"
    for path in own:
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty: it contains something that is kept
                path.rmdir()
        elif path != last and path.name not in (LOCK, PROBING):
            path.unlink()
    last.unlink(missing_ok=True)
    return kept


def _sorted_out(root: Path, record: RunRecord) -> tuple[list[Path], list[str]]:
    """Paths that belong to a run, contents before their folder, and the other paths. Raises Denied for unreadable folders."""

    def refuse(error: OSError) -> None:
        raise reading_error(Path(error.filename or root), error)

    own: list[Path] = []
    kept: list[str] = []
    for folder, folders, files in os.walk(root, topdown=False, onerror=refuse):
        for name in [*files, *folders]:
            path = Path(folder, name)
            within = path.relative_to(root).as_posix()
            if is_own(path, within, record.files):
                own.append(path)
            else:
                kept.append(within)
    return own, sorted(kept)


def is_own(path: Path, within: str, task_files: Collection[str] = ()) -> bool:
    """True if `path`, at `within` in a run's folder, belongs to the run.

    A .jsonl file in `probes` or `set-aside` may have any name: it belongs to the run if it is empty or has a row with a step.
    """
    if _OWN.fullmatch(within) or (
        within.startswith("task/") and within.removeprefix("task/") in {*TASK_FILES, *task_files}
    ):
        return True
    if not _LINES.fullmatch(within) or path.is_symlink() or not path.is_file():
        return False
    return not path.stat().st_size or any(True for _ in iterate_lines(path, position_problem, []))
