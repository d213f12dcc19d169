"""Errors of stored runs: absent, not permitted to be read, and damaged are three different errors."""

from pathlib import Path


class RunError(ValueError):
    """A run that is missing, cannot be read, or does not allow the operation. The message says which file and why."""


class Absent(RunError):
    """A file that does not exist."""


class Denied(RunError):
    """A file that exists, but that this user may not read or write."""


class Damaged(RunError):
    """A file that exists, but whose contents are not valid."""


def reading_error(path: Path, error: OSError) -> RunError:
    """The RunError for an OSError raised while reading `path`."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Absent(f"{path} is missing")
    if isinstance(error, PermissionError):
        return Denied(f"{path} may not be read by this user (permission denied); ask its owner for read access")
    return Damaged(f"{path} cannot be read: {error.strerror or error}")
