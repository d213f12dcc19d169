"""Stored runs as the pages read them: every file is parsed once, and again only when its time or size has changed."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from playground.results import AttentionHistory, AttentionScores, History, history
from playground.results.base import ResultT
from playground.runs.probes import probe_file
from playground.runs.record import RunRecord, parse_record, read_lines

T = TypeVar("T")


class FileCache(Generic[T]):
    """What `parse` made of each file, with the newest version of a file replacing the one before.

    Shared by all sessions of the server: what it returns must not be changed.
    """

    def __init__(self, parse: Callable[[Path], T]) -> None:
        self._parse = parse
        self._known: dict[Path, tuple[tuple[int, int], T]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> T:
        """Raises what `parse` raises, and FileNotFoundError when there is no such file."""
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == version:
            return known[1]
        value = self._parse(path)
        with self._lock:
            self._known[path] = (version, value)
        return value


def _parse_metrics(path: Path) -> pd.DataFrame:
    rows = read_lines(path)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["kind", "step", "tokens", "seconds"])


def _parse_attention(path: Path) -> AttentionHistory:
    return history(read_lines(path), AttentionScores)


_records = FileCache(parse_record)
_configs: FileCache[dict[str, Any]] = FileCache(lambda path: json.loads(path.read_text()))
_metrics = FileCache(_parse_metrics)
_attention = FileCache(_parse_attention)
_probes = FileCache(read_lines)
_histories: dict[Path, tuple[list[dict[str, Any]], History[Any]]] = {}


@dataclass(frozen=True)
class StoredRun:
    """One run's folder, read through the cache. Has what `compare_run` asks of a run."""

    path: Path
    record: RunRecord

    @property
    def id(self) -> str:
        return self.record.run

    @property
    def config(self) -> dict[str, Any]:
        """config.json as plain values, so that runs of tasks that are not installed show too."""
        try:
            return _configs.get(self.path / "config.json")
        except (OSError, ValueError):
            record = self.record
            model = {"n_future": record.n_future, "control": record.control}
            return {"task": {"name": record.task}, "model": model, "preset": record.preset, "seed": record.seed}

    @property
    def metrics(self) -> pd.DataFrame:
        """All rows so far; shared, not to be changed."""
        try:
            return _metrics.get(self.path / "metrics.jsonl")
        except FileNotFoundError:
            return pd.DataFrame(columns=["kind", "step", "tokens", "seconds"])

    @property
    def attention(self) -> AttentionHistory:
        """Attention scores of every head so far; shared, not to be changed."""
        try:
            return _attention.get(probe_file(self.path, "attention"))
        except FileNotFoundError:
            return AttentionHistory(steps=(), tokens=(), results=())

    @property
    def task_attention(self) -> AttentionHistory:
        """The same on rows of the task, before the tokens that it scores; shared, not to be changed."""
        try:
            return _attention.get(probe_file(self.path, "task_attention"))
        except FileNotFoundError:
            return AttentionHistory(steps=(), tokens=(), results=())

    def history(self, probe: str, result: type[ResultT]) -> History[ResultT]:
        """What another probe stored, such as `run.history("composition", Composition)`; shared, not to be changed."""
        path = probe_file(self.path, probe)
        try:
            rows = _probes.get(path)
        except FileNotFoundError:
            return History(steps=(), tokens=(), results=())
        if path not in _histories or _histories[path][0] is not rows:
            _histories[path] = (rows, history(rows, result))
        return _histories[path][1]

    @property
    def checkpoints(self) -> list[int]:
        """Steps at which weights are stored, ascending."""
        folder = self.path / "checkpoints"
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())


@dataclass(frozen=True)
class Store:
    """All runs of a folder, oldest first, and the folders in it that cannot be read as runs."""

    folder: Path
    runs: tuple[StoredRun, ...]
    broken: tuple[tuple[str, str], ...]
    """Name of the folder, and what is wrong with it."""

    def find(self, run_id: str) -> StoredRun | None:
        return next((run for run in self.runs if run.id == run_id), None)


def read_store(folder: Path) -> Store:
    """List a runs folder; a folder that does not exist holds no runs."""
    runs: list[StoredRun] = []
    broken: list[tuple[str, str]] = []
    try:
        entries = sorted((entry for entry in os.scandir(folder) if entry.is_dir()), key=lambda entry: entry.name)
    except OSError:
        entries = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            runs.append(StoredRun(Path(entry.path), _records.get(Path(entry.path, "run.json"))))
        except FileNotFoundError:
            broken.append((entry.name, "run.json is missing"))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            broken.append((entry.name, f"run.json cannot be read: {error}"))
    return Store(folder, tuple(sorted(runs, key=lambda run: run.record.created)), tuple(broken))
