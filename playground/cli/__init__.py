"""The command line, `python -m playground COMMAND`; `COMMAND --help` describes a command.

Exit status: 0 success, 1 a training that failed, 2 bad input (one sentence on stderr), 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence

from playground.cli.generation import generate_command
from playground.cli.probing import formation_command, probe_command
from playground.cli.stored import compare_command, runs_command
from playground.cli.training import resume_command, train_command
from playground.config import nearest
from playground.config.values import shortened
from playground.running.children import attach
from playground.running.stopping import Interrupted, catching_signals
from playground.terminal import say

COMMANDS = {
    "train": "Train one model on one task and store the run.",
    "resume": "Resume a run that was stopped, was killed or failed.",
    "compare": "Compare stored runs side by side.",
    "probe": "Analyse the models of a stored run: heads, circuits, ablation, patching, lens.",
    "formation": "When heads and behaviour formed in stored runs, in which order, and how n changes it.",
    "generate": "Continue text with a stored run, several tokens per forward; measure its speed and quality.",
    "runs": "List, show or remove stored runs.",
}


NO_MEMORY = "can't allocate memory"
"""Part of torch's error message when the operating system refuses memory."""


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    command, rest = (argv[0] if argv else "--help"), list(argv[1:])
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train_command,
        "resume": resume_command,
        "compare": compare_command,
        "runs": runs_command,
        "probe": probe_command,
        "formation": formation_command,
        "generate": generate_command,
    }
    _open_streams()
    try:
        if command in ("--help", "-h"):
            _print_help()
            return 0
        if command not in commands:
            raise ValueError(f"there is no command '{command}'{nearest(command, COMMANDS)}")
        with catching_signals() as stopping:
            attach(stopping)
            return commands[command](rest)
    except ValueError as error:
        say(f"error: {shortened(str(error))}")
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 0
        where = f" ({error.filename})" if error.filename else ""
        say(f"error: {shortened(f'{error.strerror or error}{where}')}")
        return 1 if error.errno in (errno.ENOSPC, errno.EIO) else 2
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or NO_MEMORY in str(error)):
            raise
        say(
            "error: out of memory; end other programs, raise this one's memory limit, or choose a smaller model or batch"
        )
        return 1
    except Interrupted as interrupted:
        say(str(interrupted))
        return 128 + interrupted.number
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _open_streams() -> None:
    """Replace output streams that were closed before the start by os.devnull."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (open to the end)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _print_help() -> None:
    print("usage: python -m playground COMMAND [options]\n")
    for name, summary in COMMANDS.items():
        print(f"  {name:10}{summary}")
    print("\n`python -m playground COMMAND --help` describes a command. `streamlit run app.py` opens the app.")
