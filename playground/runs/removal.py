"""Removing a stored run: the files that a run is made of, and no others, while no process works on it."""

import contextlib
import os
import re
import socket
from pathlib import Path

from playground.runs.errors import RunError, reading_error
from playground.runs.lock import LOCK, PROBING, sole_lock
from playground.runs.record import RunRecord
from playground.runs.store import Run, read_record

_OWN = re.compile(
    r"""config\.json | run\.json | metrics\.jsonl | \.lock | \.probing\.lock | \.[a-z.]+\.\d+\.tmp | set-aside(/[^/]+)?
    | probes(/\.?[^/]+\.jsonl(\.\d+\.tmp)?)?
    | task(/(tokenizer\.json|test_set\.safetensors|[a-z_]+\.(json|safetensors)))?
    | checkpoints(/(\d+|\.\d+\.(tmp|old))(/\.?(weights\.safetensors|resume\.safetensors|checkpoint\.json)(\.\d+\.tmp)?)?)?
    """,
    re.VERBOSE,
)
"""What a run's folder holds, as paths within it."""


def removable(run: Run, runs_dir: Path, *, force: bool = False) -> None:
    """Raises RunError for what may not be removed: a folder that is not a direct child of the runs folder, a link, and a run
    that is trained. Whether it is trained its lock decides; one that another machine trained last needs `force`.
    """
    path = run.path
    if path.is_symlink():
        raise RunError(f"{path} is a link; remove the run in the folder where it lies")
    if path.resolve().parent != runs_dir.resolve() or path.name.startswith("."):
        raise RunError(f"{path} is not a folder directly in {runs_dir}, and only those are removed; write a run id")
    record = read_record(path)
    with sole_lock(path):
        _check_away(record, force=force)


def remove_run(run: Run, runs_dir: Path | None = None, *, force: bool = False) -> list[str]:
    """Delete the files of a run; returns the paths within its folder that are not a run's, which are kept.

    Raises RunError as `removable` does (`runs_dir` is by default the folder that holds it), and Denied.
    """
    removable(run, run.path.parent if runs_dir is None else runs_dir, force=force)
    try:
        with sole_lock(run.path):
            _check_away(read_record(run.path), force=force)
            kept = _remove_files(run.path)
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
            f"run {record.run} was last trained on another machine ({record.host}), whose locks may not be seen here; remove "
            "it there, or write --force when you know that it has ended"
        )


def _remove_files(root: Path) -> list[str]:
    """Delete what belongs to a run, run.json last, so that a removal cut short can be repeated; the other paths."""
    kept: list[str] = []
    last = root / "run.json"
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*files, *folders]:
            path = Path(folder, name)
            within = path.relative_to(root).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if not _OWN.fullmatch(within) or (is_folder and any(path.iterdir())):
                if not is_folder or not _OWN.fullmatch(within):
                    kept.append(within)
            elif is_folder:
                path.rmdir()
            elif path != last and name not in (LOCK, PROBING):
                path.unlink()
    last.unlink(missing_ok=True)
    return sorted(kept)
