"""Commands of this program as shell lines, ready to paste. Needs no torch."""

import os
import shlex
from pathlib import Path

from playground.torchrun import here, launched


def command_line(*words: str | Path) -> str:
    """A command of this program, quoted for a shell.

    >>> command_line("train", "--config", Path("my runs/config.json"))
    "python -m playground train --config 'my runs/config.json'"
    """
    return shlex.join(["python", "-m", "playground", *map(str, words)])


def run_line(command: str, *runs: Path, options: str = "") -> str:
    """A command on stored runs of one folder; `options` are plain words separated by spaces.

    >>> run_line("probe", Path("my runs/a"), options="--step all")
    "python -m playground probe a --step all --runs-dir 'my runs'"
    """
    names = [run.name if not run.name.startswith("-") else _no_option(str(run)) for run in runs]
    return command_line(command, *names, *options.split(), "--runs-dir", _no_option(str(runs[0].parent)))


def resume_line(*runs: Path) -> str:
    """The command that resumes runs of one folder, with as many processes as there are now.

    >>> resume_line(Path("runs/induction-n2"))
    'python -m playground resume induction-n2 --runs-dir runs'
    """
    start = "python"
    if launched():
        alone = int(os.environ["WORLD_SIZE"]) == here()
        start = f"torchrun --nproc-per-node {here()}" if alone else "torchrun (on each machine, as before)"
    return start + run_line("resume", *runs).removeprefix("python")


def _no_option(path: str) -> str:
    """The path in a form that no command mistakes for an option."""
    return f"./{path}" if path.startswith("-") else path
