"""Reading stored runs. Listing them reads two small JSON files per run and does not import torch.

runs/<id>/config.json      the whole configuration
          run.json         status, versions, device, times, final scores (playground/runs/record.py)
          metrics.jsonl    rows of kind "train" (losses) and "eval" (test loss per offset, scores)
          probes/<name>.jsonl  results of a probe, one line per step
          task/            files that a text task stores: tokenizer, test set
          checkpoints/<step>/  weights, and the state for resuming (playground/runs/checkpoint.py)
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from playground.config import RunConfig, nearest
from playground.results import AttentionHistory, AttentionScores, History
from playground.results.base import ResultT
from playground.runs.agreement import rows_problem
from playground.runs.config import read_config, read_config_values
from playground.runs.errors import Absent, Damaged, RunError, reading_error
from playground.runs.metrics import FILE as METRICS
from playground.runs.metrics import Metrics, read_metrics
from playground.runs.probes import Stored, probe_files, read_history
from playground.runs.reading import bad_lines, read_bad_lines, sha256_of
from playground.runs.record import FORMAT, RunRecord, parse_record
from playground.runs.steps import stored_steps

if TYPE_CHECKING:
    from playground.model.transformer import MTPTransformer
    from tasks.base import Task

TASK_FOLDER = "task"


@dataclass(frozen=True)
class BrokenRun:
    """A folder in a runs folder that cannot be read as a run, with the reason."""

    path: Path
    problem: str


class Run:
    """One stored run. Everything is read from its folder at first use, and checked then.

    `text` is the present path of the text of a text task, if it is no longer where the configuration says.
    """

    def __init__(self, path: Path | str, record: RunRecord | None = None, *, text: str | None = None) -> None:
        self.path = Path(path)
        self.record = record or read_record(self.path)
        self.text = text

    @property
    def id(self) -> str:
        return self.record.run

    @cached_property
    def config(self) -> RunConfig:
        """The configuration the run was trained with. Raises Damaged if it differs from what run.json says."""
        return read_config(self.path, self.record)

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

    def read_metrics(self) -> Metrics:
        """All rows so far, and the lines that cannot be read."""
        return read_metrics(self.path / METRICS)

    @property
    def attention(self) -> AttentionHistory:
        """Attention scores of every head on random repeats, at every step at which they were measured."""
        return self.history("attention", AttentionScores)

    def history(self, probe: str, result: type[ResultT]) -> History[ResultT]:
        """Results of a probe during training, such as `run.history("composition", Composition)`; empty if it did not run."""
        return self.read_history(probe, result).history

    def read_history(self, probe: str, result: type[ResultT]) -> Stored[ResultT]:
        """Results of a probe during training, and the lines that cannot be read."""
        model = read_config_values(self.path, self.record)["model"]
        return read_history(self.path, probe, result, model, self.record.steps)

    @property
    def problems(self) -> list[str]:
        """Parts of the run that cannot be read and are skipped, one sentence per file."""
        found: list[str] = []
        for path in (self.path / METRICS, *probe_files(self.path)):
            try:
                bad = read_bad_lines(path)
            except RunError as error:
                found.append(str(error))
            else:
                found += [bad_lines(path, bad)] if bad else []
        try:
            if wrong := rows_problem(
                self.path / METRICS, self.read_metrics(), self.record, read_config_values(self.path, self.record)
            ):
                found.append(wrong)
            _ = self.checkpoints
        except RunError as error:
            found += [str(error)] if str(error) not in found else []
        return found

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
        return stored_steps(self.path / "checkpoints")

    def model(self, step: int | None = None) -> "MTPTransformer":
        """The model at a stored step (the last one by default), on the CPU, with the clamped patterns of its training.

        Raises RunError when there is no checkpoint at that step, and Absent, Denied or Damaged when its weights cannot be read;
        the message names the other steps.
        """
        from playground.model.clamp import apply_clamp
        from playground.runs.checkpoint import load_model

        steps = self.checkpoints
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


def check_run(path: Path) -> RunRecord:
    """Read run.json and config.json of a folder and compare them. Raises Absent, Denied or Damaged."""
    record = read_record(path)
    read_config_values(path, record)
    return record


def run_folders(root: Path) -> list[Path]:
    """The folders in a runs folder that may be runs, sorted by name, without hidden ones and broken links.

    Empty if `root` does not exist. Raises RunError when it is a file, or may not be read.
    """
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise RunError(f"{root} is a file, and runs are stored in a folder; write another --runs-dir") from None
    except (OSError, ValueError) as error:
        raise reading_error(root, error if isinstance(error, OSError) else OSError(str(error))) from error
    return [root / name for name in names]


def list_runs(runs_dir: Path | str) -> tuple[list[Run], list[BrokenRun]]:
    """All runs in a folder, oldest first, and the folders in it that cannot be read as runs.

    Raises RunError when `runs_dir` is a file, or may not be read.
    """
    runs: list[Run] = []
    broken: list[BrokenRun] = []
    for path in run_folders(Path(runs_dir)):
        try:
            runs.append(Run(path, check_run(path)))
        except RunError as error:
            broken.append(BrokenRun(path, str(error)))
    return sorted(runs, key=lambda run: run.record.created), broken


def find_run(name: str, runs_dir: Path | str, *, text: str | None = None) -> Run:
    """Find a run by its id, by a unique prefix of its id, or by the path of its folder.

    Raises RunError, naming the nearest id, when there is none.
    """
    root = Path(runs_dir)
    if not name or "\0" in name:
        raise RunError("a run's name is empty or holds a NUL character; write its id, or the path of its folder")
    for path in (root / name, Path(name).expanduser()):
        if _exists(path / "run.json"):
            return Run(path, text=text)
    names = [path.name for path in run_folders(root)]
    matches = [candidate for candidate in names if candidate.startswith(name)]
    if len(matches) == 1:
        return Run(root / matches[0], text=text)
    if matches:
        raise RunError(f"'{name}' is the beginning of {len(matches)} runs: {', '.join(sorted(matches)[:5])}")
    raise RunError(f"there is no run '{name}' in {root}{nearest(name, names) if names else ', which holds no runs'}")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()  # no system call, except for links
    except OSError:
        return False


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True  # it exists; reading it raises Denied
    except (OSError, ValueError):
        return False
    return True
