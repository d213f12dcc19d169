"""Find stored runs of a configuration: finished, with equal experiment, seed, precision and text.

With n = 1 all controls give one model, so that a run under any of them counts.
"""

import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playground.analysis.groups import experiment_of, precision_of, precision_on
from playground.config import RunConfig
from playground.running.environment import pick_device
from playground.runs.errors import RunError
from playground.runs.record import RunRecord
from playground.runs.store import Run, list_runs
from tasks.config import TaskConfig
from tasks.registry import make_task

STORED = ("probes", "probe_points", "eval_every", "log_every", "checkpoint_every")
"""Fields of training that only decide what is stored; a run that differs in one of them does not count."""


def existing_runs(configs: Sequence[RunConfig], runs_dir: Path | str) -> dict[int, str]:
    """Map of index in `configs` to the id of a finished run in `runs_dir` that is this training; the newest of several."""
    return find_existing(configs, list_runs(runs_dir)[0])


def find_existing(configs: Sequence[RunConfig], runs: Iterable[Run]) -> dict[int, str]:
    """Map of index in `configs` to the id of the newest of `runs` that is this training, finished."""
    wanted = {(config.task.name, config.model.n_future, config.seed) for config in configs}
    stored: dict[Hashable, RunRecord] = {}
    for run in sorted(runs, key=lambda run: run.record.created):
        record = run.record
        if record.status == "finished" and (record.task, record.n_future, record.seed) in wanted:
            try:
                stored[_identity(run.values, precision_of(record))] = record
            except RunError:
                continue  # a damaged run does not count
    found: dict[int, str] = {}
    for place, config in enumerate(configs if stored else ()):
        record = stored.get(_identity(config.to_dict(), precision_on(pick_device(config.train.device).type)))
        if record is not None and record.data_hash in ("", _text_of(config.task)):
            found[place] = record.run
    return found


def _identity(values: Mapping[str, Any], precision: str) -> Hashable:
    experiment = experiment_of(values, precision)
    return experiment.identity, values["seed"], *(experiment.values.get(f"train.{name}") for name in STORED)


def _text_of(task: TaskConfig) -> str:
    """Fingerprint of the text that a task would read now; empty for a task that reads none."""
    return _fingerprint(task) if getattr(task, "path", None) else _own_text(task)


@functools.cache
def _own_text(task: TaskConfig) -> str:
    """Fingerprint of the default text, Python's own sources, which do not change during this process."""
    return _fingerprint(task)


def _fingerprint(task: TaskConfig) -> str:
    return str(getattr(make_task(task), "data_hash", ""))
