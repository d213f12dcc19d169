"""The parts of the campaign, and how one part is run by several processes, a chunk each: one that dies is a fault, and named."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.campaign import commands, disk, kills, readers


@dataclass(frozen=True)
class Part:
    """One kind of attack: a function of a number, and how many numbers at full size."""

    name: str
    attack: Callable[[Any], Iterator[str]]
    count: int
    of: Callable[[int], Sequence[Any]] = range
    """The arguments of `attack`, from how many cases there are to be."""
    cases: int = 1
    """Cases in one call."""
    chunk: int = 50
    """Calls in one process."""


PAGES_AT_ONCE = 25
CHUNK_SECONDS = 1800
"""A process that takes longer than this hangs."""


def _spread(count: int, calls: int) -> Sequence[int]:
    """Moments of kills, spread evenly over so many calls."""
    return [1 + place * calls // count for place in range(count)] if count < calls else range(1, calls + 1)


def _of_resume(count: int) -> Sequence[int]:
    return _spread(count, kills.calls_of_a_resume())


def _of_training(count: int) -> Sequence[int]:
    return _spread(count, kills.calls_of_a_training())


def _sizes(count: int) -> Sequence[int]:
    """Sizes of disks in kB: from one that holds nothing to one that holds the whole run."""
    return [int(8 * 1.22**place) for place in range(count)]


def _groups(count: int) -> Sequence[list[int]]:
    return [list(range(start, start + PAGES_AT_ONCE)) for start in range(0, count, PAGES_AT_ONCE)]


PARTS = (
    Part("kills of a resume at calls", kills.kill_at_call, 400, _of_resume, chunk=10),
    Part("kills of a training at calls", kills.kill_training_at_call, 400, _of_training, chunk=10),
    Part("kills at random moments", kills.kill_at_random, 120, chunk=10),
    Part("damaged runs, all commands", readers.try_commands, 3000),
    Part("damaged runs, all pages", readers.try_pages, 3000, _groups, PAGES_AT_ONCE, chunk=2),
    Part("command lines", commands.try_command_line, 1000),
    Part("configurations", commands.try_configuration, 1000),
    Part("full disks", disk.fill, 24, _sizes, chunk=2),
)


def run_part(part: Part, share: float, processes: int) -> tuple[int, list[str], float]:
    """Cases, faults and seconds of one part."""
    started = time.perf_counter()
    arguments = list(part.of(max(1, round(share * part.count))))
    chunks = [arguments[place : place + part.chunk] for place in range(0, len(arguments), part.chunk)]
    with ThreadPoolExecutor(processes) as pool:
        faults = [fault for found in pool.map(lambda chunk: _run_chunk(part.name, chunk), chunks) for fault in found]
    return len(arguments) * part.cases, faults, time.perf_counter() - started


def _run_chunk(name: str, arguments: Sequence[Any]) -> list[str]:
    """The faults of some calls, made by a process of their own; one that it dies or hangs at is a fault too."""
    command = [sys.executable, "-m", "tests.campaign.chunk", name, json.dumps(arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=CHUNK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        return [f"{name}: a process hangs: {(late.stdout or b'')[-200:]!r}"]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    faults = [line["fault"] for line in lines if "fault" in line]
    if done.returncode:
        at = [line["begins"] for line in lines if "begins" in line]
        faults.append(f"{name}: a process ended with {done.returncode} at {at[-1:]}: {done.stderr[-600:]}")
    return faults
