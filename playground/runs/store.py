"""Reading stored runs. Listing them reads one small JSON file a run, and no torch.

runs/<id>/config.json      the whole configuration
          run.json         status, versions, device, times, final scores (playground/runs/record.py)
          metrics.jsonl    rows of kind "train" (losses) and "eval" (test loss per offset, scores)
          probes/<name>.jsonl  what a probe measured, one line a step
          checkpoints/<step>/*.safetensors
"""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from playground.config import RunConfig, nearest
from playground.results import AttentionHistory, AttentionScores, History, history
from playground.results.base import ResultT
from playground.runs.probes import stored_rows
from playground.runs.record import RunRecord, parse_record, read_lines

if TYPE_CHECKING:
    from playground.model.transformer import MTPTransformer
    from tasks.base import Task


class RunError(ValueError):
    """A run that is not there, or cannot be read. The message says which file and why."""


@dataclass(frozen=True)
class BrokenRun:
    """A folder that looks like a run and cannot be read as one."""

    path: Path
    problem: str


class Run:
    """One stored run. Everything is read from its folder when first asked for."""

    def __init__(self, path: Path | str, record: RunRecord | None = None) -> None:
        self.path = Path(path)
        self.record = record or read_record(self.path)

    @property
    def id(self) -> str:
        return self.record.run

    @cached_property
    def config(self) -> RunConfig:
        """The configuration the run was trained with."""
        return read_config(self.path)

    @cached_property
    def task(self) -> "Task":
        """The task, built anew from the configuration."""
        from tasks.registry import make_task

        return make_task(self.config.task)

    @property
    def metrics(self) -> pd.DataFrame:
        """All rows so far. `kind` is "train" (columns step, tokens, seconds, lr, grad_norm, loss_1, .., loss_n) or
        "eval" (step, tokens, seconds, test_loss_1, .., and one column a score)."""
        rows = read_lines(self.path / "metrics.jsonl")
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["kind", "step", "tokens", "seconds"])

    @property
    def attention(self) -> AttentionHistory:
        """Attention scores of every head on random repeats, at every step they were measured so far."""
        return self.history("attention", AttentionScores)

    def history(self, probe: str, result: type[ResultT]) -> History[ResultT]:
        """What a probe measured along training, such as `run.history("composition", Composition)`; empty if it did not run."""
        return history(stored_rows(self.path, probe), result)

    @property
    def checkpoints(self) -> list[int]:
        """Steps at which weights are stored, ascending."""
        folder = self.path / "checkpoints"
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def model(self, step: int | None = None) -> "MTPTransformer":
        """The model at a stored step (the last one by default), on the CPU, with the patterns that it was trained with clamped.

        Raises RunError when there is no checkpoint at that step, naming those there are.
        """
        from playground.model.clamp import apply_clamp
        from playground.runs.checkpoint import load_model

        steps = self.checkpoints
        if not steps:
            raise RunError(f"run {self.id} has no checkpoint yet")
        if step is not None and step not in steps:
            raise RunError(f"run {self.id} has no checkpoint at step {step}; there are: {', '.join(map(str, steps))}")
        folder = self.path / "checkpoints" / str(steps[-1] if step is None else step)
        return apply_clamp(load_model(folder, self.config.model), self.config.clamp)

    def __repr__(self) -> str:
        record = self.record
        return f"Run({self.id!r}, {record.state}, step {record.step} of {record.steps})"


def read_record(path: Path) -> RunRecord:
    """Read `run.json`. Raises RunError when it is missing or broken."""
    try:
        return parse_record(path / "run.json")
    except FileNotFoundError:
        raise RunError(f"there is no run in {path}: run.json is missing") from None
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise RunError(f"{path / 'run.json'} cannot be read: {error}") from error


def read_config(path: Path) -> RunConfig:
    """Read `config.json`. Raises RunError when it is missing or broken."""
    try:
        return RunConfig.from_dict(json.loads((path / "config.json").read_text()))
    except FileNotFoundError:
        raise RunError(f"there is no configuration in {path}: config.json is missing") from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise RunError(f"{path / 'config.json'} cannot be read: {error}") from error


def load_run(path: Path | str) -> Run:
    """Open a stored run by its folder. Raises RunError when there is none, or it cannot be read."""
    return Run(path)


def list_runs(runs_dir: Path | str) -> tuple[list[Run], list[BrokenRun]]:
    """All runs of a folder, oldest first, and the folders in it that cannot be read as runs.

    Raises RunError when `runs_dir` is a file.
    """
    runs: list[Run] = []
    broken: list[BrokenRun] = []
    root = Path(runs_dir)
    if root.exists() and not root.is_dir():
        raise RunError(f"{root} is a file, and runs are stored in a folder; write another --runs-dir")
    entries = sorted(root.iterdir()) if root.is_dir() else []
    for path in entries:
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            runs.append(Run(path))
        except RunError as error:
            broken.append(BrokenRun(path, str(error)))
    return sorted(runs, key=lambda run: run.record.created), broken


def find_run(name: str, runs_dir: Path | str) -> Run:
    """A run by its id, by the unique beginning of its id, or by the path of its folder.

    Raises RunError, naming the nearest id, when there is none.
    """
    root = Path(runs_dir)
    for path in (root / name, Path(name)):
        if name and (path / "run.json").exists():
            return Run(path)
    entries = root.iterdir() if root.is_dir() else ()
    names = [path.name for path in entries if path.is_dir() and not path.name.startswith(".")]
    matches = [candidate for candidate in names if name and candidate.startswith(name)]
    if len(matches) == 1:
        return Run(root / matches[0])
    if matches:
        raise RunError(f"'{name}' is the beginning of {len(matches)} runs: {', '.join(sorted(matches)[:5])}")
    raise RunError(f"there is no run '{name}' in {root}{nearest(name, names) if names else ', which holds no runs'}")


def remove_run(run: Run) -> None:
    """Delete a run's folder. Raises RunError while its process is alive."""
    if run.record.state == "running":
        raise RunError(f"run {run.id} is still training; stop it first")
    shutil.rmtree(run.path)
