"""At which steps a run has stored weights. Needs no torch."""

import os
import re
from pathlib import Path

WEIGHTS = "weights.safetensors"
RESUME = "resume.safetensors"
_STEP = re.compile("0|[1-9][0-9]{0,17}")


def stored_steps(folder: Path, name: str = "") -> list[int]:
    """Steps of a folder of checkpoints, ascending: all, or those that hold a file `name`; none where the folder is missing.

    Whether the files are whole is checked when they are opened.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
        return sorted(int(step) for step in names if _STEP.fullmatch(step) and (folder / step / name).exists())
    except OSError:
        return []


def resumable(folder: Path) -> list[int]:
    """Steps of a folder of checkpoints that hold what a run needs to go on, ascending."""
    return stored_steps(folder, RESUME)
