"""A disk that is full at any size: a training either ends with one sentence, or goes on to its end once there is room."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.template import TINY, call, rows, template


@contextlib.contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A file system of that size (Linux, as root). Raises OSError where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=777", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        raise OSError("no file system of a chosen size can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def can_mount() -> bool:
    """Whether this machine lets us make a small disk."""
    try:
        with small_disk(64):
            return True
    except OSError:
        return False


def fill(kilobytes: int) -> Iterator[str]:
    """Train on a disk of that size, then free it and go on; yields the faults."""
    with small_disk(kilobytes) as disk, tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        command = [
            sys.executable,
            "-m",
            "playground",
            "train",
            *TINY,
            "--run-id",
            "run",
            "--runs-dir",
            str(disk),
            "--json",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        )
        if "Traceback" in done.stderr or done.returncode not in (0, 1) or len(done.stderr.strip().splitlines()) > 1:
            yield f"{kilobytes} kB: status {done.returncode}, {done.stderr[-300:]!r}"
        if done.returncode and "space" not in done.stderr:
            yield f"{kilobytes} kB: it does not say that the disk is full: {done.stderr!r}"
        if not (disk / "run").exists():
            return
        shutil.copytree(disk / "run", Path(scratch, "run"))
        answer = call("runs", "show", "run", "--runs-dir", scratch)
        if answer.status:
            yield f"{kilobytes} kB: the run cannot be read: {answer.error}"
        elif done.returncode:
            answer = call("resume", "run", "--json", "--runs-dir", scratch)
            if answer.status:
                yield f"{kilobytes} kB: it cannot be resumed: {answer.error}"
        if rows(Path(scratch, "run")) != rows(template() / "whole"):
            yield f"{kilobytes} kB: the numbers differ from a run on a large disk"
