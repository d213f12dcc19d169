"""The steps at which a run has stored weights. Needs no torch."""

import os
import re
from pathlib import Path

from playground.runs.errors import reading_error

WEIGHTS = "weights.safetensors"
RESUME = "resume.safetensors"
_STEP = re.compile("0|[1-9][0-9]{0,17}")


def stored_steps(folder: Path, name: str = "") -> list[int]:
    """Steps in a checkpoints folder, ascending: all, or those with a file `name`; none if the folder is missing.

    The files are checked only when they are opened. A step whose folder this user may not read is included, because it is not
    absent. Raises Denied if the checkpoints folder may not be read.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise reading_error(folder, error) from error
    return sorted(int(step) for step in names if _STEP.fullmatch(step) and _may_exist(folder / step / name))


def may_be_read(folder: Path) -> bool:
    """True if a checkpoints folder is missing or readable by this user; one system call, for pages with many runs."""
    return os.access(folder, os.R_OK | os.X_OK) or not folder.exists()


def _may_exist(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True
    except OSError:
        return False


def resumable(folder: Path) -> list[int]:
    """Steps in a checkpoints folder from which a run can resume, ascending."""
    return stored_steps(folder, RESUME)
