"""Trainings in child processes, `python -m playground train`, which end when the process that started them ends.

A child's standard input is a pipe whose only other end its parent holds. To stop the child, the parent writes the reason and
closes the pipe; when the parent dies, the operating system closes it. Either way the child writes a checkpoint and ends.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from playground.running.stopping import NAMES, Stopping

ATTACHED = "PLAYGROUND_ATTACHED"
"""Set for a child, whose standard input is then its parent's pipe."""
GRACE = 60.0
"""Seconds that a child has for its checkpoint after it was asked to stop."""
PROJECT = Path(__file__).parents[2]
STOPPED = {128 + number for number in NAMES} | {-number for number in NAMES}
"""Exit statuses of a training that was asked to stop; the negative ones while it was still loading."""
MOST_REASON, MOST_LOG = 1000, 2**16
"""Bytes of a reason that reach the child, and of the end of its messages that are read."""


class Child:
    """One training in a process of its own. What it says goes into the file `log`."""

    def __init__(self, options: Sequence[str], runs_dir: Path, log: Path) -> None:
        program, where = [sys.executable, "-m", "playground", "train"], ["--runs-dir", str(runs_dir.resolve())]
        self.log, self.killed = log, False
        self._asked: float | None = None
        with log.open("wb") as file:  # a pipe would hold up a child that warns a lot
            self.process = subprocess.Popen(
                [*program, *options, *where, "--json"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=os.environ | {ATTACHED: "1"},
                cwd=PROJECT,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which asks
            )

    def stop(self, reason: str) -> None:
        """Ask for a checkpoint and the end; called again after GRACE seconds, kill."""
        if self._asked is None:
            self._asked = time.monotonic()
            self._close(reason.encode()[:MOST_REASON])
        elif time.monotonic() - self._asked > GRACE and not self.killed:
            self.killed = True
            self.process.kill()

    def _close(self, word: bytes = b"") -> None:
        pipe = self.process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError):  # the child has ended
            if word:
                pipe.write(word)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        if self.process.poll() is None:
            return False
        self._close()
        return True

    @property
    def problem(self) -> str:
        """Why a process that has ended failed: the last line that it wrote, or how it ended."""
        if self.killed:
            return f"it did not end within {GRACE:.0f} seconds after it was asked to stop, and was killed"
        status = self.process.returncode
        if self._asked is not None and status in STOPPED:
            return "it was stopped while it loaded"
        if status < 0:
            return f"its process was killed by signal {-status}"
        return last_line(self.log).removeprefix("error: ") or f"its process ended with status {status}"


def last_line(log: Path) -> str:
    """The last line with text in a file of messages; empty where there is none."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_LOG))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def end_all(children: Sequence[Child], reason: str, *, look_every: float = 0.1) -> None:
    """Ask children to stop and wait until all have ended."""
    while True:
        going = [child for child in children if not child.ended]
        if not going:
            return
        for child in going:
            child.stop(reason)
        time.sleep(look_every)


def attach(stopping: Stopping) -> None:
    """In a child: watch the parent's pipe from now on. In any other process nothing happens."""
    if os.environ.pop(ATTACHED, "") != "1":
        return
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # programs that the child starts must not read from the pipe
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe, stopping), name="parent", daemon=True).start()


def _watch(pipe: int, stopping: Stopping) -> None:
    said = bytearray()
    while part := os.read(pipe, MOST_REASON):
        said += part
    reason = said.decode(errors="replace").strip()
    stopping.request(reason or "stopped because the process that started it ended")
