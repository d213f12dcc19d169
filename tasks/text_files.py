"""Finding and reading text: regular files of bounded size, and no file of a stored run.

A folder with a file `run.json` is a stored run, and none of its files is text, whatever their names. Otherwise a runs folder
inside a text folder would change the text with every training.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tasks.base import TextMissing

MOST_BYTES = 8_000_000_000
"""The largest text that is read, over all files."""
RUN_FILE = "run.json"
"""The file that makes a folder a stored run."""


def named(path: object) -> str:
    """A path as text for an error message: printable, and not too long.

    >>> named("a" * 88 + "b/" + "c" * 5000)[80:100]
    'aaaaaaaab/...ccccccc'
    """
    text = str(path)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 200 else f"{text[:90]}...{text[-100:]}"


def expand(path: str) -> Path:
    """A user's path with `~` expanded. Raises TextMissing (a ValueError) for the home of an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise TextMissing(
            f"{named(path)} is in the home of a user that is unknown here; write the absolute path"
        ) from error


def kind_of(path: Path, advice: str) -> Literal["file", "folder"]:
    """Kind of a path: regular file or folder. Raises TextMissing, with `advice` at the end, for anything else."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TextMissing(f"there is nothing at {named(path)}; {advice}") from error
    except OSError as error:
        raise TextMissing(f"{named(path)} cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:  # a path that the file system cannot have
        raise TextMissing(f"{named(path)} is not a path; {advice}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise TextMissing(f"{named(path)} is neither a file nor a folder but a pipe, a socket or a device; {advice}")
    return "file" if stat.S_ISREG(mode) else "folder"


def files_below(
    root: Path, wanted: Callable[[str], bool], enters: Callable[[str], bool], *, links: bool
) -> dict[tuple[str, ...], int]:
    """The regular files below `root` with a `wanted` name: the parts of their relative paths, with their sizes.

    Folders are entered if `enters` their name, except stored runs and the job and temporary folders of a runs folder. Links to
    folders are not followed; links to files are followed if `links`.
    """
    found: dict[tuple[str, ...], int] = {}
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        if RUN_FILE in names and _size(here / RUN_FILE, links=False) is not None:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if enters(name) and not _is_of_runs(name)]
        parts = here.relative_to(root).parts
        for name in names:
            size = _size(here / name, links=links) if wanted(name) else None
            if size is not None:
                found[*parts, name] = size
    return found


def read_file(path: Path) -> bytes:
    """The bytes of a regular file, as many as it has when opened. Raises TextMissing if unreadable, ValueError if too large."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise TextMissing(f"{named(path)} is not a regular file")
            check_size(path, info.st_size)
            return file.read(info.st_size)
    except OSError as error:
        raise TextMissing(
            f"{named(path)} cannot be read ({error.strerror}); make it readable, or write another path"
        ) from error
    except MemoryError as error:
        raise ValueError(
            f"{named(path)} does not fit into the memory of this machine; write the path of a smaller text"
        ) from error


def check_size(path: Path, size: int) -> None:
    """Raises ValueError for a text of more than MOST_BYTES."""
    if size > MOST_BYTES:
        raise ValueError(
            f"{named(path)} has more than {MOST_BYTES:,} bytes of text, the limit; write the path of a smaller text"
        )


def _is_of_runs(name: str) -> bool:
    return name == ".jobs" or name.startswith(".new-")


def _size(path: Path, *, links: bool) -> int | None:
    """The size of a regular file; None for anything else, or if it cannot be determined."""
    try:
        info = path.stat() if links else path.lstat()
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None
