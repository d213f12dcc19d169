"""The registry of tasks by name. Every module in this folder that defines `CONFIG` and `TASK` is a task; there is no list.

`OPEN_SAVED`, optional, opens the task of a stored run from the files that the run stores. A task defined elsewhere (such as in
a notebook) is added with `register_task`.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tasks.base import Task, TaskConfig, TextChanged
from tasks.config import shown

OpenSaved = Callable[[Any, Path | None, str, str | None], Task]
"""Makes a task from its configuration, the folder of its files in the run (or None), the text's hash and present path."""


@dataclass(frozen=True)
class _Known:
    config: type[TaskConfig]
    build: Callable[[Any], Any]
    open_saved: OpenSaved | None


_registered: dict[str, _Known] = {}


@cache
def _shipped() -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"tasks.{info.name}")
        if hasattr(module, "TASK") and hasattr(module, "CONFIG"):
            found[module.CONFIG.name] = _Known(module.CONFIG, module.TASK, getattr(module, "OPEN_SAVED", None))
    return found


def register_task(config: type[TaskConfig], task: Callable[[Any], Any], open_saved: OpenSaved | None = None) -> None:
    """Register a task that is defined outside of this folder, under `config.name`.

    Raises ValueError when the name is taken by another configuration class.
    """
    known = (_shipped() | _registered).get(config.name)
    if known is not None and known.config.__qualname__ != config.__qualname__:
        raise ValueError(f"the task name '{config.name}' is taken by {known.config.__qualname__}; choose another name")
    _registered[config.name] = _Known(config, task, open_saved)


def task_names() -> list[str]:
    """Names of all tasks, sorted."""
    return sorted(_shipped() | _registered)


def config_class(name: str) -> type[TaskConfig]:
    """The configuration class of a task. Raises ValueError, with the nearest name, for an unknown name."""
    return _find(name).config


def make_task(task: str | TaskConfig, **overrides: Any) -> Task:
    """Build a task from its name (and fields to override) or from its configuration. Raises ValueError for unknown ones.

    >>> make_task("induction", d_vocab=32).d_vocab
    32
    """
    if isinstance(task, TaskConfig):
        if overrides:
            raise ValueError("give either a configuration or a name with overrides, not both")
        return _find(task.name).build(task)
    known = _find(task)
    fields = known.config.__dataclass_fields__
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise ValueError(f"task '{task}' has no field {shown(unknown[0])}{_nearest(unknown[0], fields)}")
    return known.build(known.config(**overrides))


def needs_text(config: TaskConfig) -> bool:
    """True if the task of this configuration reads files."""
    return config.reads_text


def open_task(config: TaskConfig, *, saved: Path | None = None, data_hash: str = "", path: str | None = None) -> Task:
    """The task of a stored run.

    `saved` is the folder that `ReadsText.save` wrote, so that only `sample` reads the text; without it (a run of an older
    version) the task is built again from its text. `data_hash` is the text's fingerprint in the run, and `path` the present
    path of the text, if it was moved. Raises TextMissing or TextChanged if the text is needed and is missing or changed, and
    ValueError, with the file's name, if a file in `saved` is missing or damaged.
    """
    known = _find(config.name)
    if not config.reads_text:
        if path is not None:
            raise ValueError(f"the task {config.name} of this run reads no text; leave the path out")
        return known.build(config)
    if known.open_saved is not None:
        return known.open_saved(config, saved, data_hash, path)
    if path is not None or saved is not None:
        raise ValueError(
            f"the task {config.name} cannot open the files that a run stores; give register_task an open_saved"
        )
    task = known.build(config)
    if data_hash not in ("", getattr(task, "data_hash", "")):
        raise TextChanged(
            f"the text of the task {config.name} is not the one its run was trained on; put the files back"
        )
    return task


def _find(name: str) -> _Known:
    known = _shipped() | _registered
    if name not in known:
        raise ValueError(
            f"there is no task {shown(name)}{_nearest(name, known)} (a task of your own: register_task(Config, Task) first)"
        )
    return known[name]


def _nearest(name: str, names: Any) -> str:
    if len(name) > 100:  # the comparison of long texts is slow
        name = ""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; there are: {', '.join(sorted(names))}"
