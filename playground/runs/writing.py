"""Writing stored files: replaced whole or appended to, and on the disk before anything depends on them.

A file that is replaced is written beside the old one, forced to the disk (fsync) and renamed; then its folder is forced.
Lines are appended without that, and forced with the next checkpoint (docs/reliability.md says what a power cut can take).
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file in one step: a reader sees the old contents or the new, never a part."""
    replace_file(path, [json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"])


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Replace a file by the given bytes in one step. When that fails (a full disk), the old file stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what `replace_file` left in a folder when its process was killed: files that name a process that is gone."""
    for path in folder.glob(".*.tmp"):
        pid = path.name.rpartition(".tmp")[0].rpartition(".")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid[:9])):
            with contextlib.suppress(OSError):
                path.unlink()


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add one JSON line. A line that a kill or a full disk has cut before is ended first, so that it spoils no other."""
    line = json.dumps(values, allow_nan=False).encode() + b"\n"
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line
        try:
            _write_all(file.fileno(), line)
        except OSError:
            os.ftruncate(file.fileno(), end)  # no half lines where the disk is full
            raise


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def sync_file(path: Path) -> None:
    """Force a file's contents to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Force a folder's list of names to the disk, where the system can."""
    with contextlib.suppress(OSError):
        sync_file(path)
