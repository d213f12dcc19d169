"""Reading stored files: the border at which everything in a run's folder is checked, so that nothing further in has to check.

Only regular files of bounded size are read (never a pipe or a device), as strict JSON: UTF-8, finite numbers, bounded nesting.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from playground.runs.errors import Absent, Damaged, reading_error
from playground.text import is_whole

MOST_BYTES = 4 * 2**20
"""Largest JSON file that is read whole (run.json, config.json)."""
MOST_LINE_BYTES = 64 * 2**20
"""Longest line of a .jsonl file that is read; a longer one counts as damaged."""
MOST_BAD = 10_000
"""Bad lines of a file that are counted."""
MOST_NUMBER = 2**62
"""Largest count in a stored file (steps, tokens, bytes)."""
MOST_TEXT = 20_000
"""Longest string in run.json and config.json, characters."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises Absent, Denied or Damaged (for a pipe, a device or a folder as well)."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        raise reading_error(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damaged(f"{path} is no regular file")
    return os.fdopen(handle, "rb")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises Absent, Denied, or Damaged for everything that is no such object."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise Damaged(f"{path} is damaged: it has {size:,} bytes, and at most {MOST_BYTES:,} are read")
        try:
            return parse_object(file.read(MOST_BYTES + 1))
        except OSError as error:
            raise reading_error(path, error) from error
        except ValueError as error:
            raise Damaged(f"{path} is damaged: {error}") from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal digits. Raises Absent, Denied or Damaged."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError, in a few words, for text that is none."""
    try:
        decoded = text.decode("utf-8")
        if decoded.startswith(
            "{"
        ):  # what `decode` does without looking for white space: a file may have a million lines
            values, end = _DECODER.raw_decode(decoded)
            if decoded[end:] not in ("\n", ""):
                values = _DECODER.decode(decoded)
        else:
            values = _DECODER.decode(decoded)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(str(error).partition(";")[0]) from error
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


# Made once: for small objects making a decoder takes as long as using it.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a .jsonl file that cannot be read; it is skipped, counted and told, and kept in the file."""

    number: int
    """Counted from 1."""
    problem: str


Check = Callable[[dict[str, Any]], str]
"""What is wrong with a row, in a few words; empty for a good one."""


def iterate_lines(path: Path, check: Check, bad: list[BadLine], start: int = 0) -> Iterator[dict[str, Any]]:
    """The good rows of a .jsonl file in order; bad lines are added to `bad`. A missing file has no rows.

    A last line without a newline that is no row is being written, or was cut by a kill: it is left out and not counted.
    `start` is a byte offset at which a line begins. Raises Denied, or Damaged for no regular file.
    """
    for number, line in numbered_lines(path, start):
        row, problem = parse_line(line, check)
        if row is not None:
            yield row
        elif problem:
            note_bad(bad, number, line, problem)


def note_bad(bad: list[BadLine], number: int, line: bytes, problem: str) -> None:
    """Add a bad line to `bad`: a whole one, and not after `MOST_BAD`, since junk may have a hundred million lines."""
    if line.endswith(b"\n") and len(bad) < MOST_BAD:
        bad.append(BadLine(number, problem))


def numbered_lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, as `iterate_lines` reads them."""
    try:
        file = open_regular(path)
    except Absent:
        return
    with file:
        file.seek(start)
        yield from enumerate(_bounded_lines(file), start=1)


def parse_line(line: bytes, check: Check) -> tuple[dict[str, Any] | None, str]:
    """The row of a line, or None and what is wrong with it; an empty line has neither."""
    if not line.strip():
        return None, ""
    try:
        row = parse_object(line)
        problem = check(row)
    except ValueError as error:
        return None, str(error)
    return (None, problem) if problem else (row, "")


def _bounded_lines(file: BufferedReader) -> Iterator[bytes]:
    """Lines with their newline; of one that is too long only its end is kept, which is no JSON."""
    while line := file.readline(MOST_LINE_BYTES):
        too_long = False
        while len(line) == MOST_LINE_BYTES and not line.endswith(b"\n"):
            too_long = True
            line = file.readline(MOST_LINE_BYTES)
        yield b"too long\n" if too_long else line


def position_problem(row: dict[str, Any]) -> str:
    """What is wrong with where a row says that it stands: `step` and `tokens` are counts."""
    for name in ("step", "tokens"):
        value = row.get(name)
        if type(value) is not int or not 0 <= value <= MOST_NUMBER:
            return f"its {name} is missing" if name not in row else f"its {name} is no count"
    return ""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True is none."""
    kind = type(value)
    return (kind is float and math.isfinite(value)) or (kind is int and -MOST_NUMBER <= value <= MOST_NUMBER)


def is_text(value: Any) -> bool:
    """Whether a value is a string of bounded length without half characters, which nothing could write out."""
    return isinstance(value, str) and len(value) <= MOST_TEXT and is_whole(value)


def read_bad_lines(path: Path) -> list[BadLine]:
    """The lines of a .jsonl file that are no rows. Raises Denied, or Damaged for no regular file."""
    bad: list[BadLine] = []
    for _ in iterate_lines(path, position_problem, bad):
        pass
    return bad


def bad_lines(path: Path, bad: Sequence[BadLine]) -> str:
    """What is said of lines that cannot be read."""
    one = len(bad) == 1
    count = f"{len(bad):,} or more" if len(bad) >= MOST_BAD else f"{len(bad):,}"
    lines = f"line {bad[0].number}" if one else f"{count} lines, the first of them {bad[0].number},"
    return f"{path}: {lines} cannot be read and {'is' if one else 'are'} left out ({bad[0].problem})"
