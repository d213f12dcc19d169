"""Tasks whose answers are known: batches of tokens, masks and scores. Imports nothing from `playground`."""

from tasks.base import Batch, Evaluation, Predict, Score, Task, TaskConfig
from tasks.registry import config_class, make_task, register_task, task_names

__all__ = [
    "Batch",
    "Evaluation",
    "Predict",
    "Score",
    "Task",
    "TaskConfig",
    "config_class",
    "make_task",
    "register_task",
    "task_names",
]
