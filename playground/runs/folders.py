"""The folders in a runs folder that may be runs."""

import os
from pathlib import Path

from playground.runs.errors import RunError, reading_error


def run_folders(root: Path) -> list[Path]:
    """The folders in a runs folder that may be runs, sorted by name, without hidden ones and broken links.

    Empty if `root` does not exist. Raises RunError when it is a file, or may not be read.
    """
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise RunError(f"{root} is a file, and runs are stored in a folder; write another --runs-dir") from None
    except (OSError, ValueError) as error:
        raise reading_error(root, error if isinstance(error, OSError) else OSError(str(error))) from error
    return [root / name for name in names]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()  # no system call, except for links
    except OSError:
        return False


def may_exist(path: Path) -> bool:
    """True if there is such a file, or if this user may not look whether there is; reading it then raises Denied."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
