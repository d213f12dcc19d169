"""Values read from files, each kept until its file changes. Needs no Streamlit: command line and notebooks read with it too."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Version = tuple[int, ...]


class FileCache:
    """What was read from some files, one value per file and kind: that of a new version replaces the previous one.

    May be used by several threads, which at worst read a file twice. Returned values are shared: they must not be changed.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Hashable], tuple[Version, Any]] = {}

    def get(self, path: Path, read: Callable[[Path], T], kind: Hashable = None) -> T:
        """`read(path)`, called again only after the file has changed. Raises the errors of `read`, and keeps none of them.

        `kind` tells values apart that are read from one file in different ways.
        """
        version = file_version(path)  # taken before reading: a file that changes meanwhile is read again
        known = self._known.get((path, kind))
        if known is not None and known[0] == version:
            return known[1]
        self._known.pop((path, kind), None)
        value = read(path)
        if version is not None:
            self._known[path, kind] = (version, value)
        return value


def file_version(path: Path) -> Version | None:
    """A key that differs between versions of a file: inode, size, and time of the last change of contents or mode.

    None if there is no such file, or it may not be looked at.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
