"""Writing stored files: atomic replacement or appended lines, on the disk before anything depends on them.

A replaced file is first written under a temporary name in its folder and fsynced, then renamed, then the folder is fsynced.
Lines are appended without fsync; the next checkpoint fsyncs them (docs/explanation/reliability.md: effects of a power cut).
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file atomically: a reader sees the old contents or the new, never a part. Raises OSError."""
    replace_file(path, [json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"])


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Replace a file atomically by the given bytes. Raises OSError (such as a full disk); the old file is unchanged then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            # Before the rename: otherwise a power cut could leave the new name with empty contents.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove temporary files of `replace_file` whose process, named in the file name, no longer exists."""
    for path in folder.glob(".*.tmp"):
        pid = path.name.rpartition(".tmp")[0].rpartition(".")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid[:9])):
            with contextlib.suppress(OSError):
                path.unlink()


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Append one JSON line. If the file ends in a line that was cut by a kill, that line is ended first. Raises OSError."""
    line = json.dumps(values, allow_nan=False).encode() + b"\n"
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line
        try:
            _write_all(file.fileno(), line)
        except OSError:
            os.ftruncate(file.fileno(), end)  # no partial line after a full disk
            raise


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def sync_file(path: Path) -> None:
    """Fsync a file's contents. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Fsync a folder's entries, where the operating system supports it; a rename is durable only after this."""
    with contextlib.suppress(OSError):
        sync_file(path)
