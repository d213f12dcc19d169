"""Stored configurations as checked plain values, without importing the task's class, which would need torch.

Runs of tasks that are not installed can therefore be listed and compared too.
"""

import functools
import json
from typing import Any

from playground.config.checks import problem, strict
from playground.config.run import RunConfig, fields_by_place, hash_values, split_values
from tasks.config import TaskConfig

__all__ = ["hash_values", "read_values"]

LONG_CONTEXT = 2**16
"""Context length assumed for a task whose stored values have no n_ctx."""


def read_values(values: Any) -> dict[str, Any]:
    """Check the parsed JSON of a `RunConfig.to_dict`, and add missing fields with their defaults; tuples are lists.

    The task's fields are checked for their size only. Raises ValueError, with the field and what to write instead, for
    everything else that `RunConfig.from_dict` rejects.
    """
    seed = values.get("seed") if isinstance(values, dict) else None
    if problem(seed, int, _SEED):
        return _read(values)
    try:
        found = _read_text(json.dumps(values | {"seed": 0}))
    except (ValueError, TypeError, RecursionError):
        return _read(values)  # raises with the reason
    parts = {name: dict(part) if isinstance(part, dict) else part for name, part in found.items()}
    return parts | {"seed": seed}


_SEED = fields_by_place()["seed"]


@functools.lru_cache(maxsize=256)
def _read_text(text: str) -> dict[str, Any]:
    """`_read` with a cache: the runs of a folder often differ only in their seed."""
    return _read(json.loads(text))


def _read(values: Any) -> dict[str, Any]:
    task, others = split_values(values)
    stand_in = strict(TaskConfig, {"n_ctx": task.get("n_ctx", LONG_CONTEXT)}, "task")
    config = strict(RunConfig, others | {"task": stand_in}, "run")
    return {"task": task} | {name: _lists(part) for name, part in config.without_task().items()}


def _lists(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: list(value) if isinstance(value, tuple) else value for name, value in part.items()}
