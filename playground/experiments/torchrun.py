"""What torchrun tells a process about the training that it belongs to, in environment variables. Needs no torch."""

import os
from pathlib import Path


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def here() -> int:
    """How many processes of this training there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


def resume_line(*runs: Path) -> str:
    """The command that goes on with runs of one folder, with as many processes as there are now.

    >>> resume_line(Path("runs/induction-n2"))
    'python -m playground resume induction-n2 --runs-dir runs'
    """
    start = "python"
    if launched():
        alone = int(os.environ["WORLD_SIZE"]) == here()
        start = f"torchrun --nproc-per-node {here()}" if alone else "torchrun (on each machine, as before)"
    return f"{start} -m playground resume {' '.join(run.name for run in runs)} --runs-dir {runs[0].parent}"
