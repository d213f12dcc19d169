"""From a name to a task. Every module of this folder that defines `CONFIG` and `TASK` is one; no list is kept.

A task defined elsewhere (in a notebook, say) is added with `register_task`.
"""

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

from tasks.base import Task, TaskConfig

_registered: dict[str, tuple[type[TaskConfig], type]] = {}


@cache
def _shipped() -> dict[str, tuple[type[TaskConfig], type]]:
    found: dict[str, tuple[type[TaskConfig], type]] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"tasks.{info.name}")
        if hasattr(module, "TASK") and hasattr(module, "CONFIG"):
            found[module.CONFIG.name] = (module.CONFIG, module.TASK)
    return found


def register_task(config: type[TaskConfig], task: type) -> None:
    """Make a task known under `config.name`, for a task that lives outside this folder.

    Raises ValueError when the name is taken by another configuration class.
    """
    known = (_shipped() | _registered).get(config.name)
    if known is not None and known[0].__qualname__ != config.__qualname__:
        raise ValueError(f"the task name '{config.name}' is taken by {known[0].__qualname__}; choose another name")
    _registered[config.name] = (config, task)


def task_names() -> list[str]:
    """Names of all known tasks, sorted."""
    return sorted(_shipped() | _registered)


def config_class(name: str) -> type[TaskConfig]:
    """The configuration class of a task. Raises ValueError, with the nearest name, for an unknown one."""
    return _find(name)[0]


def make_task(task: str | TaskConfig, **overrides: Any) -> Task:
    """Build a task from its name (and fields to override) or from its configuration.

    >>> make_task("induction", d_vocab=32).d_vocab
    32
    """
    if isinstance(task, TaskConfig):
        if overrides:
            raise ValueError("give either a configuration or a name with overrides, not both")
        return _find(task.name)[1](task)
    config, implementation = _find(task)
    unknown = sorted(set(overrides) - set(config.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"task '{task}' has no field '{unknown[0]}'{_nearest(unknown[0], config.__dataclass_fields__)}"
        )
    return implementation(config(**overrides))


def _find(name: str) -> tuple[type[TaskConfig], type]:
    known = _shipped() | _registered
    if name not in known:
        raise ValueError(
            f"there is no task '{name}'{_nearest(name, known)} (a task of your own: register_task(Config, Task) first)"
        )
    return known[name]


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; there are: {', '.join(sorted(names))}"
