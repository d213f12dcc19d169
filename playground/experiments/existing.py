"""Trainings that are stored already: the same experiment with the same seed, finished, in the same precision, on the same text.

With n = 1 every control names one model, so that a run under one of them stands for all.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playground.config import RunConfig
from playground.experiments.environment import pick_device
from playground.experiments.groups import experiment_of, precision_of
from playground.runs.config import read_config_values
from playground.runs.errors import RunError
from playground.runs.record import RunRecord
from playground.runs.store import list_runs
from tasks.config import TaskConfig
from tasks.registry import make_task

STORED = ("probes", "probe_points", "eval_every", "log_every", "checkpoint_every")
"""Fields of training that decide what is stored, and nothing else: a run that stored something else does not stand in."""


def existing_runs(configs: Sequence[RunConfig], runs_dir: Path | str) -> dict[int, str]:
    """By the place of a configuration the id of a finished run in `runs_dir` that is this training; the newest of several."""
    known: list[tuple[RunRecord, Mapping[str, Any]]] = []
    for run in list_runs(runs_dir)[0]:
        if run.record.status == "finished":
            try:
                known.append((run.record, read_config_values(run.path, run.record)))
            except RunError:
                continue  # a damaged run stands for nothing
    return find_existing(configs, known)


def find_existing(configs: Sequence[RunConfig], known: Iterable[tuple[RunRecord, Mapping[str, Any]]]) -> dict[int, str]:
    """`existing_runs`, from the records of finished runs and the contents of their config.json."""
    stored: dict[Any, RunRecord] = {}
    for record, values in sorted(known, key=lambda pair: pair[0].created):
        stored[_identity(values, precision_of(record))] = record
    found: dict[int, str] = {}
    if not stored:
        return found
    for place, config in enumerate(configs):
        precision = "float32" if pick_device(config.train.device).type == "cpu" else "bfloat16"
        record = stored.get(_identity(config.to_dict(), precision))
        if record is not None and record.data_hash in ("", _text_of(config.task)):
            found[place] = record.run
    return found


def _identity(values: Mapping[str, Any], precision: str) -> Any:
    train = values["train"]
    kept = tuple(repr(_plain(train.get(name))) for name in STORED)
    return experiment_of(values, precision).identity, values["seed"], kept


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text_of(task: TaskConfig) -> str:
    """The fingerprint of the text that a task reads now; empty for a task that reads none."""
    return _fingerprint(task) if getattr(task, "path", None) else _own_text(task)


@functools.cache
def _own_text(task: TaskConfig) -> str:
    """Python's own sources, which stay what they are while this process lives."""
    return _fingerprint(task)


def _fingerprint(task: TaskConfig) -> str:
    return str(getattr(make_task(task), "data_hash", ""))
