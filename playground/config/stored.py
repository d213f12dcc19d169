"""Stored configurations as checked plain values, without the class of their task, which would need torch.

So runs of tasks that are not installed can be listed and compared as well.
"""

from typing import Any

from playground.config.checks import strict
from playground.config.run import RunConfig, hash_values, split_values
from tasks.config import TaskConfig

__all__ = ["hash_values", "read_values"]

LONG_CONTEXT = 2**16
"""Of a task that does not tell its own."""


def read_values(values: Any) -> dict[str, Any]:
    """What `RunConfig.to_dict` wrote and JSON read, with every field outside of the task present; tuples are lists.

    Of the task's fields only their size is bounded. Raises ValueError as `RunConfig.from_dict` does.
    """
    task, others = split_values(values)
    stand_in = strict(TaskConfig, {"n_ctx": task.get("n_ctx", LONG_CONTEXT)}, "task")
    config = strict(RunConfig, others | {"task": stand_in}, "run")
    return {"task": task} | {name: _lists(part) for name, part in config.without_task().items()}


def _lists(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: list(value) if isinstance(value, tuple) else value for name, value in part.items()}
