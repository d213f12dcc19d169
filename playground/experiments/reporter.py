"""Somebody who watches a training. Needs no torch, so that the command line starts at once."""

from typing import Any, Protocol, runtime_checkable

from playground.runs.record import RunRecord


@runtime_checkable
class Reporter(Protocol):
    """Told when a training starts, whenever it writes a row, and how it ended."""

    def started(self, record: RunRecord) -> None: ...
    def row(self, row: dict[str, Any], record: RunRecord) -> None: ...
    def ended(self, record: RunRecord) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def started(self, record: RunRecord) -> None: ...
    def row(self, row: dict[str, Any], record: RunRecord) -> None: ...
    def ended(self, record: RunRecord) -> None: ...
