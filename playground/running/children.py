"""Trainings in child processes, `python -m playground train`, which end when the process that started them ends.

A child's standard input is a pipe, and only its parent has the other end. To stop the child, the parent writes the reason and
closes the pipe; when the parent dies, the operating system closes it. In both cases the child writes a checkpoint and ends.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playground.running.stopping import NAMES, Stopping

ATTACHED = "PLAYGROUND_ATTACHED"
"""Environment variable of a child whose standard input is its parent's pipe."""
GRACE = 60.0
"""Seconds between a stop request and the kill of a child; time to write the checkpoint."""
PROJECT = Path(__file__).parents[2]
STOPPED = {128 + number for number in NAMES} | {-number for number in NAMES}
"""Exit statuses of a training after a stop request; the negative ones if it was still loading."""
MOST_REASON, MOST_LOG = 1000, 2**16
"""Most bytes of a reason that are sent to the child, and of the end of its log that are read."""


class Child:
    """One training in a separate process: a new one (`train`) or the rest of a stopped one (`resume`).

    Its messages (stderr) go into the file `log`.
    """

    def __init__(
        self, options: Sequence[str], runs_dir: Path, log: Path, command: Literal["train", "resume"] = "train"
    ) -> None:
        program, where = [sys.executable, "-m", "playground", command], ["--runs-dir", str(runs_dir.resolve())]
        self.log, self.killed = log, False
        self._asked: float | None = None
        with log.open("wb") as file:  # a full pipe would block a child that writes many warnings
            self.process = subprocess.Popen(
                [*program, *options, *where, "--json"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=os.environ | {ATTACHED: "1"},
                cwd=PROJECT,
                start_new_session=True,  # Ctrl-C reaches only the parent, which then stops it
            )

    def stop(self, reason: str) -> None:
        """Request a checkpoint and the end of the process; a later call, after GRACE seconds, kills it."""
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
        """True if the process has ended."""
        if self.process.poll() is None:
            return False
        self._close()
        return True

    @property
    def problem(self) -> str:
        """Why an ended process failed: the last line of its log, or its exit status."""
        if self.killed:
            return f"it did not end within {GRACE:.0f} seconds after the stop request, and was killed"
        status = self.process.returncode
        if self._asked is not None and status in STOPPED:
            return "it was stopped while it loaded"
        if status < 0:
            return f"its process was killed by signal {-status}"
        return last_line(self.log).removeprefix("error: ") or f"its process ended with status {status}"


def last_line(log: Path) -> str:
    """The last line with text in a log file; empty if there is none."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_LOG))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def end_all(children: Sequence[Child], reason: str, *, look_every: float = 0.1) -> None:
    """Stop children and wait until all have ended; after GRACE seconds they are killed."""
    while True:
        going = [child for child in children if not child.ended]
        if not going:
            return
        for child in going:
            child.stop(reason)
        time.sleep(look_every)


def attach(stopping: Stopping) -> None:
    """In a child process: start a thread that watches the parent's pipe. In any other process: do nothing."""
    if os.environ.pop(ATTACHED, "") != "1":
        return
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # else programs started by the child could read the reason
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe, stopping), name="parent", daemon=True).start()


def _watch(pipe: int, stopping: Stopping) -> None:
    said = bytearray()
    while part := os.read(pipe, MOST_REASON):
        said += part
    reason = said.decode(errors="replace").strip()
    stopping.request(reason or "stopped because the process that started it ended")
