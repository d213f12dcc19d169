"""Tasks whose answers are known: batches of tokens, masks and scores. Imports nothing from `playground`.

Names are loaded when first used, so that reading stored configurations does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import Batch, Evaluation, Predict, ReadsText, Score, Task, TextChanged, TextMissing
    from tasks.config import TaskConfig
    from tasks.registry import config_class, make_task, needs_text, open_task, register_task, task_names

_MODULE_OF = {
    "Batch": "tasks.base",
    "Evaluation": "tasks.base",
    "Predict": "tasks.base",
    "ReadsText": "tasks.base",
    "Score": "tasks.base",
    "Task": "tasks.base",
    "TaskConfig": "tasks.config",
    "TextChanged": "tasks.base",
    "TextMissing": "tasks.base",
    "config_class": "tasks.registry",
    "make_task": "tasks.registry",
    "needs_text": "tasks.registry",
    "open_task": "tasks.registry",
    "register_task": "tasks.registry",
    "task_names": "tasks.registry",
}

__all__ = [
    "Batch",
    "Evaluation",
    "Predict",
    "ReadsText",
    "Score",
    "Task",
    "TaskConfig",
    "TextChanged",
    "TextMissing",
    "config_class",
    "make_task",
    "needs_text",
    "open_task",
    "register_task",
    "task_names",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tasks' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
