"""What `--help` says of every command, as text files that docs/reference/command-line.md shows: a step of `make docs`.

.venv/bin/python -m docs.scripts.command_line
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "build" / "help"
COMMANDS = ("train", "resume", "compare", "probe", "formation", "generate", "runs list", "runs show", "runs rm")


def help_of(command: str) -> str:
    """The text of `--help`, at a width that fits a page."""
    return subprocess.run(
        [sys.executable, "-m", "playground", *command.split(), "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def file_of(command: str) -> Path:
    """Where the text of a command is written."""
    return FOLDER / f"{command.replace(' ', '-')}.txt"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        file_of(command).write_text(help_of(command))
