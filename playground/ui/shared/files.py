"""Cached reading of stored runs: every file is parsed once, and again only when it has changed.

Files are checked when they are read (playground/runs); damaged parts are left out and listed in `problems`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd

from playground.results import AttentionHistory, AttentionScores, History
from playground.results.base import ResultT
from playground.runs.agreement import rows_problem
from playground.runs.config import FILE as CONFIG
from playground.runs.config import read_config_values
from playground.runs.errors import RunError, reading_error
from playground.runs.metrics import FILE as METRICS
from playground.runs.metrics import NO_METRICS, Metrics, read_metrics
from playground.runs.probes import Stored, probe_file, read_history
from playground.runs.reading import BadLine, bad_lines
from playground.runs.record import RunRecord, parse_record
from playground.runs.steps import may_be_read, stored_steps
from playground.runs.store import run_folders

T = TypeVar("T")
Version = tuple[int, ...]
FILES = ("run.json", CONFIG, METRICS)


class FileCache(Generic[T]):
    """A cache of `parse(path)` that keeps one entry per file: a new version replaces the previous one.

    Shared by all sessions of the server: returned values must not be changed.
    """

    def __init__(self, parse: Callable[[Path], T]) -> None:
        self._parse = parse
        self._known: dict[Path, tuple[Version, T]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> T:
        """The parsed file. Raises the errors of `parse`, and FileNotFoundError if there is no such file."""
        version = file_version(path)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == version:
            return known[1]
        value = self._parse(path)
        with self._lock:
            self._known[path] = (version, value)
        return value


def file_version(path: Path) -> Version:
    """A key that differs between versions of a file: inode, size, and time of the last change of contents or mode."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _or_problem(parse: Callable[[Path], T]) -> Callable[[Path], "T | RunError"]:
    """`parse` with RunError as a return value, so that the cache holds it and a damaged file is parsed only once."""

    def parsed(path: Path) -> T | RunError:
        try:
            return parse(path)
        except RunError as error:
            return error

    return parsed


_NO_HISTORY: History[Any] = History(steps=(), tokens=(), results=())
_records = FileCache(_or_problem(parse_record))
_configs: dict[Path, tuple[Version, RunRecord, dict[str, Any] | RunError]] = {}
_metrics = FileCache(_or_problem(read_metrics))
_histories: dict[tuple[Path, type], tuple[Version, dict[str, Any], Stored[Any]]] = {}
_runs: "dict[Path, dict[Path, _Known]]" = {}
"""Known runs by runs folder, then by the run's own folder."""


@dataclass(frozen=True, eq=False)
class StoredRun:
    """One run's folder, read through the cache: the same object until run.json, config.json or metrics.jsonl changes.

    Implements the interface of `compare_run`.
    """

    path: Path
    record: RunRecord
    config: dict[str, Any]
    """config.json as checked plain values, so that runs of tasks that are not installed can be shown too."""

    @property
    def id(self) -> str:
        return self.record.run

    @property
    def metrics(self) -> pd.DataFrame:
        """All rows, as they were at the first access; shared, must not be changed."""
        return self._rows.table

    @property
    def columns(self) -> Mapping[str, Any]:
        """The columns of `metrics` as arrays, faster for pages with many runs; shared, must not be changed."""
        return self._rows.columns

    def read_metrics(self) -> Metrics:
        """All rows, and the lines that cannot be read; shared, must not be changed."""
        return self._rows

    @cached_property
    def _rows(self) -> Metrics:
        try:
            found = _metrics.get(self.path / METRICS)
        except OSError:
            return NO_METRICS
        return NO_METRICS if isinstance(found, RunError) else found

    @property
    def attention(self) -> AttentionHistory:
        """Attention scores of every head so far, on random repeats; shared, must not be changed."""
        return self.history("attention", AttentionScores)

    @property
    def task_attention(self) -> AttentionHistory:
        """Attention scores on rows of the task, at the queries before scored tokens; shared, must not be changed."""
        return self.history("task_attention", AttentionScores)

    def history(self, probe: str, result: type[ResultT]) -> History[ResultT]:
        """Stored results of a probe, as in `run.history("composition", Composition)`; shared, must not be changed."""
        return self.read_history(probe, result).history

    def read_history(self, probe: str, result: type[ResultT]) -> Stored[ResultT]:
        """Stored results of a probe, and the lines that cannot be read; shared, must not be changed."""
        path = probe_file(self.path, probe)
        try:
            version = file_version(path)
            known = _histories.get((path, result))
            if known is None or known[0] != version or known[1] is not self.config:
                found = read_history(self.path, probe, result, self.config["model"], self.record.steps)
                known = _histories[path, result] = (version, self.config, found)
            return known[2]
        except FileNotFoundError:
            return Stored(_NO_HISTORY)
        except (OSError, RunError) as error:
            return Stored(_NO_HISTORY, (BadLine(0, str(error)),))

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each part of the run that cannot be read and is left out."""
        found: list[str] = []
        try:
            metrics = _metrics.get(self.path / METRICS)
            if isinstance(metrics, RunError):
                found.append(str(metrics))
            elif metrics.bad:
                found.append(bad_lines(self.path / METRICS, metrics.bad))
        except OSError:
            pass
        if wrong := self._rows_problem:
            found.append(wrong)
        folder = self.path / "checkpoints"
        if not may_be_read(folder):
            found.append(str(reading_error(folder, PermissionError())))
        return tuple(found)

    @cached_property
    def _rows_problem(self) -> str:
        return rows_problem(self.path / METRICS, self._rows, self.record, self.config)

    @property
    def checkpoints(self) -> list[int]:
        """Steps with stored weights, ascending; empty if the folder may not be read (see `problems`)."""
        try:
            return stored_steps(self.path / "checkpoints")
        except RunError:
            return []


@dataclass(frozen=True)
class Store:
    """All runs of a folder, oldest first, and the folders in it that cannot be read as runs."""

    folder: Path
    runs: tuple[StoredRun, ...]
    broken: tuple[tuple[str, str], ...]
    """Name of the folder, and the error."""

    def find(self, run_id: str) -> StoredRun | None:
        return next((run for run in self.runs if run.id == run_id), None)


def read_store(folder: Path) -> Store:
    """List a runs folder; a folder that does not exist holds no runs, and one that may not be read is listed as broken."""
    broken: list[tuple[str, str]] = []
    try:
        paths = run_folders(folder)
    except RunError as error:
        return Store(folder, (), ((folder.name, str(error)),))
    before, known = _runs.get(folder, {}), dict[Path, _Known]()
    for path in paths:
        of_run = before.get(path)
        files = of_run.files if of_run is not None else tuple(path / name for name in FILES)
        versions = tuple(map(_version_if_there, files))
        if of_run is not None and of_run.versions == versions:
            known[path] = of_run
            continue
        try:
            record = _records.get(path / "run.json")
            found = record if isinstance(record, RunError) else _config(path, record)
        except OSError as error:
            record, found = None, reading_error(Path(error.filename or path), error)
        if isinstance(found, RunError) or not isinstance(record, RunRecord):
            broken.append((path.name, str(found)))
        else:
            known[path] = _Known(files, versions, StoredRun(path, record, found))
    _runs[folder] = known
    runs = (of_run.run for of_run in known.values())
    return Store(folder, tuple(sorted(runs, key=lambda run: run.record.created)), tuple(broken))


class _Known(NamedTuple):
    """A run that was read, and the versions of its files before it was read."""

    files: tuple[Path, ...]
    versions: tuple[Version | None, ...]
    run: StoredRun


def _version_if_there(path: Path) -> Version | None:
    try:
        return file_version(path)
    except (OSError, ValueError):
        return None


def _config(path: Path, record: RunRecord) -> "dict[str, Any] | RunError":
    """The checked configuration of a run; the same object as long as it and the fields of run.json about it are unchanged."""
    version = file_version(path / CONFIG)
    known = _configs.get(path)
    if known is not None and known[0] == version and known[1].config_hash == record.config_hash:
        return known[2]
    try:
        found: dict[str, Any] | RunError = read_config_values(path, record)
    except RunError as error:
        found = error
    _configs[path] = (version, record, found)
    return found
