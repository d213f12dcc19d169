"""Files as bytes: which files there are, which are read, and which of them are kept for testing.

Worked split, four files of a folder and `test_fraction` 0.3: they are ordered by a hash of their relative path and the
first ceil(0.3 x 4) = 2 are the test files. A single file is cut instead: its last 30% are the test text.
"""

import hashlib
import math
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT_FOLDERS = frozenset(
    {
        "__pycache__",
        "site-packages",  # not the standard library's own
        "dist-packages",
        "_vendor",
        "_bundled",
        "test",  # what some distributors leave out or put into packages of their own
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "lib2to3",
        "distutils",
        "ensurepip",
        "venv",
        "lib-dynload",
        "encodings",  # tables written by a program
        "pydoc_data",
    }
)
"""Folders of the standard library that are left out, so that the text is the same wherever that Python is."""

LEFT_OUT_PREFIXES = ("_sysconfigdata", "config-", "sitecustomize", "usercustomize", "turtle.py")
"""The same for names that begin so: written at build time, or by a distributor."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts to train on and texts to test on; each is the bytes of one file (or of one part of a single file)."""

    train: tuple[bytes, ...]
    test: tuple[bytes, ...]


def load_corpus(path: str | None, suffixes: tuple[str, ...] | None, test_fraction: float) -> Corpus:
    """Read a file, a folder, or (None) the sources of the standard library of the Python that runs.

    Files that cannot be read are left out, as are hidden ones. Raises ValueError where nothing is left.
    """
    root = Path(sysconfig.get_path("stdlib") if path is None else path).expanduser()
    if not root.exists():
        raise ValueError(f"there is nothing at {root}; write the path of a file or folder, or leave path out")
    if root.is_file():
        return _cut(root.read_bytes(), test_fraction)
    wanted = (".py",) if path is None and suffixes is None else suffixes
    texts = {name: text for name in _names(root, wanted, path is None) if (text := _read(root / name))}
    if not texts:
        endings = f" that ends in {' or '.join(wanted)}" if wanted else ""
        raise ValueError(f"no file{endings} was found in {root}; write another path or other suffixes")
    if len(texts) == 1:
        return _cut(next(iter(texts.values())), test_fraction)
    ordered = sorted(texts, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    n_test = min(math.ceil(test_fraction * len(ordered)), len(ordered) - 1)
    held_back = set(ordered[:n_test])
    return Corpus(
        train=tuple(text for name, text in texts.items() if name not in held_back),
        test=tuple(text for name, text in texts.items() if name in held_back),
    )


def _cut(text: bytes, test_fraction: float) -> Corpus:
    """The last part of a single text is for testing."""
    end = len(text) - math.ceil(test_fraction * len(text))
    return Corpus(train=(text[:end],), test=(text[end:],))


def _names(root: Path, suffixes: tuple[str, ...] | None, is_library: bool) -> list[str]:
    """Relative paths of the wanted files below `root`, sorted, with "/" between their parts."""

    def wanted(name: str) -> bool:
        return not name.startswith(".") and not (is_library and name.startswith(LEFT_OUT_PREFIXES))

    found: list[str] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if wanted(name) and not (is_library and name in LEFT_OUT_FOLDERS)]
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in files
            if wanted(name) and (suffixes is None or name.endswith(suffixes))
        ]
    return sorted(found)


def _read(path: Path) -> bytes:
    """The bytes of a regular file, or nothing where it cannot be read (or is a link, a pipe, ...)."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except OSError:
        return b""
