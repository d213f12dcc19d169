"""At which steps a run has stored weights. Needs no torch."""

import os
import re
from pathlib import Path

from playground.runs.errors import reading_error

WEIGHTS = "weights.safetensors"
RESUME = "resume.safetensors"
_STEP = re.compile("0|[1-9][0-9]{0,17}")


def stored_steps(folder: Path, name: str = "") -> list[int]:
    """Steps of a folder of checkpoints, ascending: all, or those that hold a file `name`; none where the folder is missing.

    Whether the files are whole is checked when they are opened. A step whose folder may not be looked into counts: what may not
    be read is not absent. Raises Denied for a folder of checkpoints that may not be read.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise reading_error(folder, error) from error
    return sorted(int(step) for step in names if _STEP.fullmatch(step) and _may_exist(folder / step / name))


def may_be_read(folder: Path) -> bool:
    """Whether a folder of checkpoints is missing or open to this user: one call to the system, for pages of many runs."""
    return os.access(folder, os.R_OK | os.X_OK) or not folder.exists()


def _may_exist(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True
    except OSError:
        return False


def resumable(folder: Path) -> list[int]:
    """Steps of a folder of checkpoints that hold what a run needs to go on, ascending."""
    return stored_steps(folder, RESUME)
