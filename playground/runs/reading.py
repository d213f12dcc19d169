"""Reading stored files. Everything in a run's folder is checked here, so that the rest of the code can rely on it.

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
"""Most bad lines of a file that are counted."""
MOST_NUMBER = 2**62
"""Largest count in a stored file (steps, tokens, bytes)."""
MOST_TEXT = 20_000
"""Longest string in run.json and config.json, characters."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises Absent, Denied or Damaged (also for a pipe, a device or a folder)."""
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for a writer, possibly forever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        raise reading_error(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damaged(f"{path} is not a regular file")
    return os.fdopen(handle, "rb")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises Absent, Denied, or Damaged if the contents are not a JSON object."""
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
    """Parse a JSON object. Raises ValueError, with a short text, for anything else."""
    try:
        decoded = text.decode("utf-8")
        # For the usual line, skip `decode`'s search for white space: a file may have a million lines.
        if decoded.startswith("{"):
            values, end = _DECODER.raw_decode(decoded)
            if decoded[end:] not in ("\n", ""):
                values = _DECODER.decode(decoded)
        else:
            values = _DECODER.decode(decoded)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(str(error).partition(";")[0]) from error
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


# Made once: for small objects, making a decoder takes as long as using it.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a .jsonl file that cannot be read; it is skipped, counted and reported, and stays in the file."""

    number: int
    """Line number, from 1."""
    problem: str


Check = Callable[[dict[str, Any]], str]
"""Returns a short error text for an invalid row, an empty text for a valid one."""


def iterate_lines(path: Path, check: Check, bad: list[BadLine], start: int = 0) -> Iterator[dict[str, Any]]:
    """The valid rows of a .jsonl file in order; bad lines are added to `bad`. A missing file has no rows.

    A last line without a newline that is not valid is either being written or was cut by a kill: it is skipped and not counted.
    `start` is a byte offset at which a line begins. Raises Denied, or Damaged if the file is not a regular file.
    """
    for number, line in numbered_lines(path, start):
        row, problem = parse_line(line, check)
        if row is not None:
            yield row
        elif problem:
            note_bad(bad, number, line, problem)


def note_bad(bad: list[BadLine], number: int, line: bytes, problem: str) -> None:
    """Add a bad line to `bad` if it ends with a newline and `bad` has fewer than MOST_BAD entries, to bound the memory."""
    if line.endswith(b"\n") and len(bad) < MOST_BAD:
        bad.append(BadLine(number, problem))


def numbered_lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers from 1; none if the file is missing. `start` is a byte offset.

    Raises Denied, or Damaged if the file is not a regular file.
    """
    try:
        file = open_regular(path)
    except Absent:
        return
    with file:
        file.seek(start)
        yield from enumerate(_bounded_lines(file), start=1)


def parse_line(line: bytes, check: Check) -> tuple[dict[str, Any] | None, str]:
    """The row of a line and "", or None and an error text; None and "" for an empty line."""
    if not line.strip():
        return None, ""
    try:
        row = parse_object(line)
        problem = check(row)
    except ValueError as error:
        return None, str(error)
    return (None, problem) if problem else (row, "")


def _bounded_lines(file: BufferedReader) -> Iterator[bytes]:
    """Lines with their newline; a line that is too long is replaced by "too long", which is not JSON."""
    while line := file.readline(MOST_LINE_BYTES):
        too_long = False
        while len(line) == MOST_LINE_BYTES and not line.endswith(b"\n"):
            too_long = True
            line = file.readline(MOST_LINE_BYTES)
        yield b"too long\n" if too_long else line


def position_problem(row: dict[str, Any]) -> str:
    """Error text unless `step` and `tokens` of a row are counts; empty if they are."""
    for name in ("step", "tokens"):
        value = row.get(name)
        if type(value) is not int or not 0 <= value <= MOST_NUMBER:
            return f"its {name} is missing" if name not in row else f"its {name} is no count"
    return ""


def is_number(value: Any) -> bool:
    """True if a value is a finite number and not a bool."""
    kind = type(value)
    return (kind is float and math.isfinite(value)) or (kind is int and -MOST_NUMBER <= value <= MOST_NUMBER)


def is_text(value: Any) -> bool:
    """True if a value is a string of bounded length without lone surrogates, which no stream can encode."""
    return isinstance(value, str) and len(value) <= MOST_TEXT and is_whole(value)


def read_bad_lines(path: Path) -> list[BadLine]:
    """The bad lines of a .jsonl file. Raises Denied, or Damaged if the file is not a regular file."""
    bad: list[BadLine] = []
    for _ in iterate_lines(path, position_problem, bad):
        pass
    return bad


def bad_lines(path: Path, bad: Sequence[BadLine]) -> str:
    """Message about lines that cannot be read."""
    one = len(bad) == 1
    count = f"{len(bad):,} or more" if len(bad) >= MOST_BAD else f"{len(bad):,}"
    lines = f"line {bad[0].number}" if one else f"{count} lines, the first of them {bad[0].number},"
    return f"{path}: {lines} cannot be read and {'is' if one else 'are'} skipped ({bad[0].problem})"
