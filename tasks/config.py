"""The base of every task's configuration. Imports no torch, so that stored configurations can be read without it."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Base of every task's configuration; `name` is what `make_task` and the command line call the task."""

    name: ClassVar[str]

    n_ctx: int = 64
    """Context length: tokens in one row."""
