"""The parts of the campaign, and how one part is run in several processes."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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


PAGES_AT_ONCE = 25


def _spread(count: int) -> Sequence[int]:
    """Moments of kills, spread evenly over a resume."""
    calls = kills.calls_of_a_resume()
    return [1 + place * calls // count for place in range(count)] if count < calls else range(1, calls + 1)


def _sizes(count: int) -> Sequence[int]:
    """Sizes of disks in kB: from one that holds nothing to one that holds the whole run."""
    return [int(8 * 1.22**place) for place in range(count)]


def _groups(count: int) -> Sequence[range]:
    return [range(start, start + PAGES_AT_ONCE) for start in range(0, count, PAGES_AT_ONCE)]


PARTS = (
    Part("kills at calls to the file system", kills.kill_at_call, 200, _spread),
    Part("kills at random moments", kills.kill_at_random, 60),
    Part("damaged runs, all commands", readers.try_commands, 3000),
    Part("damaged runs, all pages", readers.try_pages, 3000, _groups, PAGES_AT_ONCE),
    Part("command lines", commands.try_command_line, 1000),
    Part("configurations", commands.try_configuration, 1000),
    Part("full disks", disk.fill, 24, _sizes),
)


def run_part(part: Part, share: float, processes: int) -> tuple[int, list[str], float]:
    """Cases, faults and seconds of one part."""
    started = time.perf_counter()
    wanted = max(1, round(share * part.count))
    arguments = part.of(wanted)
    faults: list[str] = []
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        for found in pool.map(_attack, [(part.name, argument) for argument in arguments]):
            faults += found
    return len(arguments) * part.cases, faults, time.perf_counter() - started


def _attack(job: tuple[str, Any]) -> list[str]:
    name, argument = job
    part = next(part for part in PARTS if part.name == name)
    return list(part.attack(argument))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
