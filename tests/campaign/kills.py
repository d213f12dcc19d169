"""Trainings that are killed (SIGKILL) at chosen calls to the file system and at random moments, and then resumed: bit for bit."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.template import TINY, call, rows, template

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")
CHILD = """
import os, signal, sys
moment, names, argv = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
from playground.cli import main
import playground.running.runner, playground.runs.checkpoint as checkpoint  # loading is not part of the count
count = 0
def dying(call):
    def wrapped(*args, **options):
        global count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    return wrapped
for name in names:
    setattr(os, name, dying(getattr(os, name)))
checkpoint.save_file = dying(checkpoint.save_file)
status = main(argv)
print("calls", count, file=sys.stderr)
sys.exit(status)
"""


def _start(moment: int, *argv: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PLAYGROUND_NO_TYPECHECK": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(moment), ",".join(CALLS), *argv]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def calls_of_a_resume() -> int:
    """How many calls to the file system a whole resume makes."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        shutil.copytree(template() / "stopped", Path(scratch, "victim"))
        return _calls("resume", "victim", "--json", "--runs-dir", scratch)


def calls_of_a_training() -> int:
    """How many calls to the file system a whole training makes."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        return _calls("train", *TINY, "--run-id", "victim", "--json", "--runs-dir", scratch)


def _calls(*argv: str) -> int:
    _, error = _start(-1, *argv).communicate()
    return int(error.rpartition("calls ")[2])


def kill_at_call(moment: int) -> Iterator[str]:
    """Kill a resume at one of its calls to the file system; yields the faults."""
    yield from _kill(lambda _process: None, moment, f"call {moment}")


def kill_training_at_call(moment: int) -> Iterator[str]:
    """Kill a new training at one of its calls to the file system, then go on with it, or train again; yields the faults."""
    what = f"call {moment} of a training"
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        train = ("train", *TINY, "--run-id", "victim", "--json", "--runs-dir", scratch)
        _start(moment, *train).communicate()
        listed = call("runs", "list", "--runs-dir", scratch)
        if listed.status or "cannot be read" in listed.error:
            yield f"{what}: the list of runs fails: {listed.error}"
        victim, finished = Path(scratch, "victim"), False
        if victim.exists():
            shown = call("runs", "show", "victim", "--runs-dir", scratch)
            finished = "finished" in shown.out
            if shown.status:
                yield f"{what}: the run cannot be read: {shown.error}"
        if not finished:
            answer = call("resume", "victim", "--json", "--runs-dir", scratch) if victim.exists() else call(*train)
            if answer.status:
                yield f"{what}: nothing goes on: {answer.error}"
        if rows(victim) != rows(template() / "whole"):
            yield f"{what}: the numbers differ from a run without the kill"
        yield from _left_over(Path(scratch), what)


def _left_over(folder: Path, what: str) -> Iterator[str]:
    left = [
        path.name for path in folder.rglob(".*") if path.suffix in (".tmp", ".old") or path.name.startswith(".new-")
    ]
    if left:
        yield f"{what}: left over: {left}"


def kill_at_random(seed: int) -> Iterator[str]:
    """Kill a resume at a random moment; yields the faults."""
    delay = random.Random(seed).random()

    def wait(process: "subprocess.Popen[str]") -> None:
        victim_started = time.perf_counter()
        while process.poll() is None and time.perf_counter() - victim_started < 2.0 + 3.0 * delay:
            time.sleep(0.001)
        process.kill()

    yield from _kill(wait, -1, f"random moment {seed}")


def _kill(wait: "object", moment: int, what: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        victim = shutil.copytree(template() / "stopped", Path(scratch, "victim"))
        before = rows(victim)
        process = _start(moment, "resume", "victim", "--json", "--runs-dir", scratch)
        wait(process)  # type: ignore[operator]
        process.communicate()
        aside = {line for path in (victim / "set-aside").glob("*.jsonl") for line in path.read_bytes().splitlines()}
        lost = [place for place in before if place not in rows(victim)]
        if len(lost) > len(aside):
            yield f"{what}: lines are lost: {lost[:3]}"
        answer = call("runs", "show", "victim", "--runs-dir", scratch)
        if answer.status:
            yield f"{what}: the run cannot be read: {answer.error}"
        if "finished" not in answer.out:
            answer = call("resume", "victim", "--json", "--runs-dir", scratch)
            if answer.status:
                yield f"{what}: it cannot be resumed: {answer.error}"
        if rows(victim) != rows(template() / "whole"):
            yield f"{what}: the numbers differ from a run without the kill"
        yield from _left_over(victim, what)
