"""Errors of stored runs. Absent, not allowed to be read, and damaged are three different sentences."""

from pathlib import Path


class RunError(ValueError):
    """A run that is missing, cannot be read, or does not allow what was asked. The message says which file and why."""


class Absent(RunError):
    """A file that does not exist."""


class Denied(RunError):
    """A file that exists and that this user may not read or write."""


class Damaged(RunError):
    """A file that exists and does not hold what it should hold."""


def reading_error(path: Path, error: OSError) -> RunError:
    """The error for a file that the operating system did not let us read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Absent(f"{path} is missing")
    if isinstance(error, PermissionError):
        return Denied(f"{path} may not be read by this user (permission denied); ask its owner for read access")
    return Damaged(f"{path} cannot be read: {error.strerror or error}")
