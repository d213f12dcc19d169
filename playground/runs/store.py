"""The one reader of stored runs. Listing them reads two small JSON files per run and does not import torch.

runs/<id>/config.json      the whole configuration
          run.json         status, versions, device, times, final scores (playground/runs/record.py)
          metrics.jsonl    rows of kind "train" (losses) and "eval" (test loss per offset, scores)
          probes/<name>.jsonl  results of a probe, one line per step
          task/            files that a text task stores: tokenizer, test set
          checkpoints/<step>/  weights, and the state for resuming (playground/runs/checkpoint.py)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pandas as pd

from playground.config import RunConfig, nearest
from playground.results import AttentionHistory, AttentionScores, History
from playground.results.base import ResultT
from playground.runs.agreement import rows_problem
from playground.runs.cached import FileCache, Version, file_version
from playground.runs.config import FILE as CONFIG
from playground.runs.config import config_of, read_config_values
from playground.runs.errors import Absent, Damaged, RunError, reading_error
from playground.runs.folders import may_exist, run_folders
from playground.runs.metrics import FILE as METRICS
from playground.runs.metrics import NO_METRICS, Metrics, read_metrics
from playground.runs.probes import Stored, probe_file, probe_files, read_history
from playground.runs.reading import BadLine, bad_lines, read_bad_lines, sha256_of
from playground.runs.record import FORMAT, RunRecord, parse_record
from playground.runs.steps import may_be_read, stored_steps

if TYPE_CHECKING:
    from playground.model.transformer import MTPTransformer
    from tasks.base import Task

T = TypeVar("T")
TASK_FOLDER = "task"
FILES = ("run.json", CONFIG, METRICS)
"""Files whose change makes a listing return a new object for the run."""
_NO_HISTORY: History[Any] = History(steps=(), tokens=(), results=())


class Run:
    """One stored run. Everything is read from its folder at first use, checked then, and read again after its file has changed.

    `text` is the present path of the text of a text task, if it is no longer where the configuration says.

    Metrics, probes and checkpoints that cannot be read raise RunError. With `lenient`, as pages read, such a part is empty
    instead, and `problems` names it. run.json and config.json that cannot be read raise in both cases: without them there is no
    run. Tables, columns and histories are shared: copy them before you change them.
    """

    def __init__(
        self,
        path: Path | str,
        record: RunRecord | None = None,
        *,
        text: str | None = None,
        lenient: bool = False,
    ) -> None:
        self.path = Path(path)
        self.record = record or read_record(self.path)
        self.text = text
        self.lenient = lenient
        self._files = FileCache()
        self._agreement = FileCache()

    @property
    def id(self) -> str:
        return self.record.run

    @cached_property
    def values(self) -> dict[str, Any]:
        """config.json as checked plain values, also where the run's task is not installed.

        Raises Absent, Denied or Damaged; Damaged also if it differs from what run.json says.
        """
        return read_config_values(self.path, self.record)

    @cached_property
    def config(self) -> RunConfig:
        """The configuration the run was trained with. Raises the errors of `values`, and Damaged for an unknown task."""
        return config_of(self.path, self.values)

    @cached_property
    def task(self) -> "Task":
        """The task, opened with the files that the run stores of it. Its text is read only when needed, and must be unchanged.

        Raises RunError if the run stores no files and the text has changed or is missing; `Run(path, text=...)` gives the path
        of a text that was moved.
        """
        from tasks.registry import open_task

        saved = self.saved_task()
        try:
            return open_task(self.config.task, saved=saved, data_hash=self.record.data_hash, path=self.text)
        except RunError:
            raise
        except ValueError as error:
            raise RunError(f"the task of run {self.id} cannot be opened: {error}") from error

    def saved_task(self) -> Path | None:
        """The folder of the files that the run stores of its task, checked against their SHA-256; None without files."""
        folder = self.path / TASK_FOLDER
        if not self.record.files:
            return None
        for name, expected in self.record.files.items():
            if "/" in name or name.startswith("."):
                raise Damaged(f"{self.path / 'run.json'} is damaged: '{name}' names no file of the task")
            if sha256_of(folder / name) != expected:
                raise Damaged(f"{folder / name} is damaged: its SHA-256 differs from when it was written")
        return folder

    @property
    def metrics(self) -> pd.DataFrame:
        """All rows so far. `kind` is "train" (columns step, tokens, seconds, lr, grad_norm, loss_1, .., loss_n) or
        "eval" (step, tokens, seconds, test_loss_1, .., and one column per score)."""
        return self.read_metrics().table

    @property
    def columns(self) -> Mapping[str, Any]:
        """The columns of `metrics` as arrays, faster than the table for many runs."""
        return self.read_metrics().columns

    def read_metrics(self) -> Metrics:
        """All rows so far, and the lines that cannot be read."""
        return self._or(NO_METRICS, lambda: self._files.get(self.path / METRICS, read_metrics))

    @property
    def attention(self) -> AttentionHistory:
        """Attention scores of every head on random repeats, at every step at which they were measured."""
        return self.history("attention", AttentionScores)

    @property
    def task_attention(self) -> AttentionHistory:
        """Attention scores on rows of the task, at the queries before scored tokens."""
        return self.history("task_attention", AttentionScores)

    def history(self, probe: str, result: type[ResultT]) -> History[ResultT]:
        """Results of a probe during training, such as `run.history("composition", Composition)`; empty if it did not run."""
        return self.read_history(probe, result).history

    def read_history(self, probe: str, result: type[ResultT]) -> Stored[ResultT]:
        """Results of a probe during training, and the lines that cannot be read; line 0 stands for the whole file."""

        def read(_path: Path) -> Stored[ResultT]:
            return read_history(self.path, probe, result, self.values["model"], self.record.steps)

        try:
            return self._files.get(probe_file(self.path, probe), read, result)
        except RunError as error:
            if not self.lenient:
                raise
            return Stored(_NO_HISTORY, (BadLine(0, str(error)),))

    @property
    def problems(self) -> tuple[str, ...]:
        """Parts of the run that cannot be read and are left out, one sentence per file. Reads every line of every probe."""
        found = list(self.problems_without_probes)
        for path in probe_files(self.path):
            try:
                bad = self._files.get(path, read_bad_lines, "bad lines")
            except RunError as error:
                found.append(str(error))
            else:
                found += [bad_lines(path, bad)] if bad else []
        return tuple(found)

    @property
    def problems_without_probes(self) -> tuple[str, ...]:
        """`problems` of metrics and checkpoints alone, for pages with many runs."""
        found: list[str] = []
        path, folder = self.path / METRICS, self.path / "checkpoints"
        try:
            metrics = self._files.get(path, read_metrics)
            found += [bad_lines(path, metrics.bad)] if metrics.bad else []
            wrong = self._agreement.get(path, lambda path: rows_problem(path, metrics, self.record, self.values))
            found += [wrong] if wrong else []
        except RunError as error:
            found.append(str(error))
        if not may_be_read(folder):
            found.append(str(reading_error(folder, PermissionError())))
        return tuple(found)

    @property
    def lacks(self) -> str:
        """What is missing from the run because an older version stored it; empty for a run of the present format."""
        if self.record.format >= FORMAT:
            return ""
        text = ", and without its tokenizer and test set, so that it needs its text" if self.record.data_hash else ""
        return f"stored by an older version, without checksums{text}"

    @property
    def checkpoints(self) -> list[int]:
        """Steps with stored weights, ascending; the files are checked only when a model is opened."""
        return self._or([], lambda: stored_steps(self.path / "checkpoints"))

    def model(self, step: int | None = None) -> "MTPTransformer":
        """The model at a stored step (the last one by default), on the CPU, with the clamped patterns of its training.

        Raises RunError when there is no checkpoint at that step, and Absent, Denied or Damaged when its weights cannot be read;
        the message names the other steps.
        """
        from playground.model.clamp import apply_clamp
        from playground.runs.checkpoint import load_model

        steps = stored_steps(self.path / "checkpoints")
        if not steps:
            raise RunError(f"run {self.id} has no checkpoint yet")
        if step is not None and step not in steps:
            raise RunError(f"run {self.id} has no checkpoint at step {step}; there are: {', '.join(map(str, steps))}")
        step = steps[-1] if step is None else step
        try:
            model = load_model(self.path / "checkpoints" / str(step), self.config.model, self.record.config_hash)
        except RunError as error:
            others = [str(other) for other in steps if other != step]
            if not others or not isinstance(error, Damaged | Absent):
                raise
            raise type(error)(f"{error}; other steps are {', '.join(others)}") from error
        return apply_clamp(model, self.config.clamp)

    def _or(self, empty: T, read: Callable[[], T]) -> T:
        """What `read` returns, or `empty` for a lenient run where it raises RunError."""
        try:
            return read()
        except RunError:
            if not self.lenient:
                raise
            return empty

    def take_over(self, earlier: "Run") -> None:
        """Use what another object has read of this run, as long as the files are the same. Histories depend on the values."""
        if earlier.values == self.values:
            self._files = earlier._files

    def __repr__(self) -> str:
        record = self.record
        return f"Run({self.id!r}, {record.state}, step {record.step} of {record.steps})"


def read_record(path: Path) -> RunRecord:
    """Read `run.json`. Raises Absent, Denied or Damaged."""
    try:
        return parse_record(path / "run.json")
    except Absent:
        raise Absent(f"there is no run in {path}: run.json is missing") from None


def load_run(path: Path | str, *, text: str | None = None) -> Run:
    """Open a stored run by its folder; `text` is the present path of its task's text, if it was moved.

    Raises RunError when there is none, or it cannot be read.
    """
    return Run(path, text=text)


@dataclass(frozen=True)
class BrokenRun:
    """A folder in a runs folder that cannot be read as a run, with the reason."""

    path: Path
    problem: str


@dataclass(frozen=True)
class Store:
    """All runs of a folder, oldest first, and the folders in it that cannot be read as runs."""

    folder: Path
    runs: tuple[Run, ...]
    broken: tuple[BrokenRun, ...]

    def find(self, run_id: str) -> Run | None:
        """The run with this id; None if there is none."""
        return next((run for run in self.runs if run.id == run_id), None)


class _Listed(NamedTuple):
    """A folder that was read, and the versions of its files before it was read."""

    files: tuple[Path, ...]
    versions: tuple[Version | None, ...]
    found: Run | BrokenRun


_listed: dict[tuple[Path, bool], dict[Path, _Listed]] = {}
"""What the last listing of each runs folder found, lenient or not, by the run's own folder."""


def read_store(folder: Path, *, lenient: bool = False) -> Store:
    """List a runs folder; one that does not exist holds no runs. A run is the same object until one of its `FILES` changes.

    Raises RunError when `folder` is a file, or may not be read; `lenient`, such a folder is listed as broken. The runs are
    lenient too (`Run`).
    """
    try:
        paths = run_folders(folder)
    except RunError as error:
        if not lenient:
            raise
        return Store(folder, (), (BrokenRun(folder, str(error)),))
    before, listed = _listed.get((folder, lenient), {}), dict[Path, _Listed]()
    for path in paths:
        known = before.get(path)
        files = known.files if known is not None else tuple(path / name for name in FILES)
        versions = tuple(map(file_version, files))
        if known is None or known.versions != versions:
            known = _Listed(files, versions, _read(path, known.found if known is not None else None, lenient))
        listed[path] = known
    _listed[folder, lenient] = listed
    runs = [known.found for known in listed.values() if isinstance(known.found, Run)]
    broken = tuple(known.found for known in listed.values() if isinstance(known.found, BrokenRun))
    return Store(folder, tuple(sorted(runs, key=lambda run: run.record.created)), broken)


def _read(path: Path, before: Run | BrokenRun | None, lenient: bool) -> Run | BrokenRun:
    try:
        run = Run(path, lenient=lenient)
        if isinstance(before, Run):
            run.take_over(before)
        _ = run.values
    except RunError as error:
        return BrokenRun(path, str(error))
    return run


def list_runs(runs_dir: Path | str) -> tuple[list[Run], list[BrokenRun]]:
    """All runs in a folder, oldest first, and the folders in it that cannot be read as runs.

    Raises RunError when `runs_dir` is a file, or may not be read.
    """
    store = read_store(Path(runs_dir))
    return list(store.runs), list(store.broken)


def find_run(name: str, runs_dir: Path | str, *, text: str | None = None) -> Run:
    """Find a run by its id, by a unique prefix of its id, or by the path of its folder.

    Raises RunError, naming the nearest id, when there is none.
    """
    root = Path(runs_dir)
    if not name or "\0" in name:
        raise RunError("a run's name is empty or holds a NUL character; write its id, or the path of its folder")
    for path in (root / name, Path(name).expanduser()):
        if may_exist(path / "run.json"):
            return Run(path, text=text)
    names = [path.name for path in run_folders(root)]
    matches = [candidate for candidate in names if candidate.startswith(name)]
    if len(matches) == 1:
        return Run(root / matches[0], text=text)
    if matches:
        raise RunError(f"'{name}' is the beginning of {len(matches)} runs: {', '.join(sorted(matches)[:5])}")
    raise RunError(f"there is no run '{name}' in {root}{nearest(name, names) if names else ', which holds no runs'}")
