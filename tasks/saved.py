"""The files that a run stores of its text (tensors), and the fingerprint that identifies the text."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tasks.base import TextChanged, TextMissing
from tasks.text_files import named

MOST_SAVED_BYTES = 2**30
"""The largest file that is read."""
PUT_BACK = "put the files back, or give their present path with --path"
"""Advice for a text that is missing or has changed."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Hashes that identify a text."""

    data_hash: str
    """Hash of all its bytes."""
    boundaries: str
    """Hash of its division into files or stories, and of these into training and test; empty if unknown."""


def fingerprint(training: Iterable[bytes], test: Iterable[bytes]) -> Fingerprint:
    """The fingerprint of training texts and test texts."""
    whole, lengths = hashlib.sha256(), hashlib.sha256()
    for texts in (training, test):
        for text in texts:
            whole.update(text)
            lengths.update(b"%d," % len(text))
        lengths.update(b";")
    return Fingerprint(data_hash=whole.hexdigest()[:16], boundaries=lengths.hexdigest()[:16])


@dataclass(frozen=True, kw_only=True)
class TextOfRun:
    """The training text of a stored run: how to find and check it."""

    fingerprint: Fingerprint
    path: str | None
    """Its present path."""
    lacks: str = ""
    """What the run does not store, so that even its test set needs the text; empty if the run stores everything."""
    advice: str = PUT_BACK
    """Advice if the text is missing or has changed."""

    def check(self, found: Fingerprint, place: object) -> None:
        """Raises TextChanged if `found` is the fingerprint of another text; `place` is named in the message."""
        expected = self.fingerprint
        if expected.data_hash not in ("", found.data_hash):
            other = f"its fingerprint is {found.data_hash}, that of the run's text {expected.data_hash}"
        elif expected.boundaries not in ("", found.boundaries):
            other = "its files or stories begin at other places"
        else:
            return
        raise TextChanged(
            f"the text at {named(place)} is not the one that the run was trained on ({other}); {self._advice}"
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Inside this block, reading errors become TextMissing or TextChanged with the run's advice."""
        try:
            yield
        except (TextChanged, TextMissing) as error:
            if isinstance(error, TextChanged):
                raise
            raise TextMissing(
                f"the text that the run was trained on is missing: {_begin(error)}; {self._advice}"
            ) from error
        except ValueError as error:
            raise TextChanged(
                f"the text is not the one that the run was trained on: {_begin(error)}; {self._advice}"
            ) from error

    @property
    def _advice(self) -> str:
        because = f" (this run was stored without its {self.lacks}, so it needs its text)" if self.lacks else ""
        return self.advice + because


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: Fingerprint) -> None:
    """Write tensors, and the fingerprint of the text from which they were made."""
    notes = {"data_hash": text.data_hash, "boundaries": text.boundaries}
    path.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, notes))


def read_tensors(
    path: Path, columns: int, data_hash: str, **types: torch.dtype
) -> tuple[dict[str, Tensor], Fingerprint]:
    """Read a file of `write_tensors` made from the text with this hash (empty: any text).

    The tensors must be tables with these names and types, `columns` columns and equally many rows, at least one. Raises
    ValueError, with the file's name, for anything else.
    """
    data = read_saved(path)
    try:
        tensors = safetensors.torch.load(data)
        notes = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        text = Fingerprint(data_hash=notes["data_hash"], boundaries=notes["boundaries"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: it has no readable tensors") from error
    if tensors.keys() != types.keys():
        raise damaged(path, f"it holds {', '.join(sorted(tensors)) or 'nothing'}, not {', '.join(sorted(types))}")
    rows = {len(value) for value in tensors.values() if value.dim() == 2 and value.shape[1] == columns}
    if len(rows) != 1 or rows == {0} or any(value.shape != (*rows, columns) for value in tensors.values()):
        raise damaged(path, f"its tensors are not tables of {columns} columns with equally many rows")
    for name, value in tensors.items():
        if value.dtype != types[name]:
            raise damaged(path, f"{name} is of type {value.dtype}, not {types[name]}")
    if data_hash not in ("", text.data_hash):
        raise damaged(path, f"it was made from the text {text.data_hash}, and the run was trained on {data_hash}")
    return tensors, text


def read_saved(path: Path) -> bytes:
    """The bytes of a file that a run stores of its task. Raises ValueError, with its name, if missing or unreadable."""
    try:
        with open(path, "rb", opener=_opener) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode) or info.st_size > MOST_SAVED_BYTES:
                raise damaged(path, "it is not a regular file, or too large")
            return file.read(MOST_SAVED_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; the run's task cannot be opened without it") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error


def damaged(path: Path, problem: str) -> ValueError:
    """The error for a file with invalid contents."""
    return ValueError(f"{path} is damaged: {problem}")


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe must not block


def _begin(error: ValueError) -> str:
    """The message of an error without its advice, which does not apply to the text of a stored run."""
    return str(error).split(";")[0]
