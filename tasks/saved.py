"""What a run keeps of its text, on disk and in memory: tensors in files, and by what the text is known again."""

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
PUT_BACK = "put the files back, or name where they lie now with --path"
"""What to do about a text that is no longer there."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """By what a text is known again."""

    data_hash: str
    """Of all its bytes."""
    boundaries: str
    """Of how they are divided into files or stories, and these into training and test; empty where it is not known."""


def fingerprint(training: Iterable[bytes], test: Iterable[bytes]) -> Fingerprint:
    """The fingerprint of texts to train on and texts to test on."""
    whole, lengths = hashlib.sha256(), hashlib.sha256()
    for texts in (training, test):
        for text in texts:
            whole.update(text)
            lengths.update(b"%d," % len(text))
        lengths.update(b";")
    return Fingerprint(data_hash=whole.hexdigest()[:16], boundaries=lengths.hexdigest()[:16])


@dataclass(frozen=True, kw_only=True)
class TextOfRun:
    """The text that a run was trained on, to be read again."""

    fingerprint: Fingerprint
    path: str | None
    """Where it lies now."""
    lacks: str = ""
    """What the run does not keep, so that it needs its text for everything; empty where it keeps all it should."""
    advice: str = PUT_BACK
    """What to do when it is not there."""

    def check(self, found: Fingerprint, place: object) -> None:
        """Raises TextChanged when the text that was found is another one."""
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
        """Say of an error in reading that it is the text of a run, and what to do."""
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
    """Write tensors and the fingerprint of the text that they are of."""
    notes = {"data_hash": text.data_hash, "boundaries": text.boundaries}
    path.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, notes))


def read_tensors(
    path: Path, columns: int, data_hash: str, **types: torch.dtype
) -> tuple[dict[str, Tensor], Fingerprint]:
    """What `write_tensors` wrote of the text with that hash, an empty one standing for any.

    The tensors are tables of equally many rows, at least one, with so many columns and these types. Raises ValueError, with
    the file's name, for anything else.
    """
    data = read_saved(path)
    try:
        tensors = safetensors.torch.load(data)
        notes = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        text = Fingerprint(data_hash=notes["data_hash"], boundaries=notes["boundaries"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: it holds no tensors that can be read") from error
    if tensors.keys() != types.keys():
        raise damaged(path, f"it holds {', '.join(sorted(tensors)) or 'nothing'}, not {', '.join(sorted(types))}")
    rows = {len(value) for value in tensors.values() if value.dim() == 2 and value.shape[1] == columns}
    if len(rows) != 1 or rows == {0} or any(value.shape != (*rows, columns) for value in tensors.values()):
        raise damaged(path, f"its tensors are not tables of {columns} columns with equally many rows")
    for name, value in tensors.items():
        if value.dtype != types[name]:
            raise damaged(path, f"{name} is of type {value.dtype}, not {types[name]}")
    if data_hash not in ("", text.data_hash):
        raise damaged(path, f"it is of the text {text.data_hash}, and the run was trained on {data_hash}")
    return tensors, text


def read_saved(path: Path) -> bytes:
    """A file of what a run keeps. Raises ValueError, with its name, when it is missing or cannot be read."""
    try:
        with open(path, "rb", opener=_opener) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode) or info.st_size > MOST_SAVED_BYTES:
                raise damaged(path, "it is no regular file, or too large")
            return file.read(MOST_SAVED_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; the run's task cannot be opened without it") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error


def damaged(path: Path, problem: str) -> ValueError:
    """The error for a file that does not hold what it should."""
    return ValueError(f"{path} is damaged: {problem}")


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe must not make us wait for its other end


def _begin(error: ValueError) -> str:
    """An error's sentence without its advice, which is for a text that is named for the first time."""
    return str(error).split(";")[0]
