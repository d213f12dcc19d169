"""Text corpora as bytes: which files are read, and which of them are the test files.

Worked split, four files in a folder and `test_fraction` 0.3: they are ordered by a hash of their relative path, and the
first ceil(0.3 x 4) = 2 are the test files. A single file is cut instead: its last 30% are the test text.
"""

import hashlib
import math
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tasks.base import TextMissing
from tasks.saved import Fingerprint, fingerprint
from tasks.text_files import RUN_FILE, check_size, expand, files_below, kind_of, named, read_file

LEFT_OUT_FOLDERS = frozenset(
    {
        "__pycache__",
        "site-packages",  # not the standard library's own
        "dist-packages",
        "_vendor",
        "_bundled",
        "test",  # this and the following are missing or packaged separately by some distributors
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
"""Folders of the standard library that are not read, so that one Python version has one text on every machine."""

LEFT_OUT_PREFIXES = ("_sysconfigdata", "config-", "sitecustomize", "usercustomize", "turtle.py")
"""Prefixes of names in the standard library that are not read: written at build time, or by a distributor."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Training texts and test texts; each is the bytes of one file (or of one part of a single file)."""

    train: tuple[bytes, ...]
    test: tuple[bytes, ...]

    @property
    def fingerprint(self) -> Fingerprint:
        return fingerprint(self.train, self.test)


def corpus_root(path: str | None) -> Path:
    """The folder or file at `path`; None: the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib")) if path is None else expand(path)


def load_corpus(
    path: str | None, suffixes: tuple[str, ...] | None, test_fraction: float, *, is_library: bool | None = None
) -> Corpus:
    """Read a file, a folder, or (None) the sources of the running Python's standard library.

    `is_library`: the folder has the sources of a standard library, some of which are not read; by default True if `path` is
    None. Unreadable files, hidden files and stored runs are skipped. Raises ValueError (TextMissing) if nothing is left.
    """
    is_library = path is None if is_library is None else is_library
    root = corpus_root(path)
    if kind_of(root, "write the path of a file or folder, or leave path out") == "file":
        return _cut(read_file(root), test_fraction)
    wanted = (".py",) if is_library and suffixes is None else suffixes
    texts = {name: text for name in _names(root, wanted, is_library) if (text := _read(root / name))}
    if not texts:
        endings = f" that ends in {named(' or '.join(wanted))}" if wanted else ""
        raise TextMissing(
            f"no file{endings} was found in {named(root)}; write another path or other suffixes (hidden files are left out, "
            f"and folders with a {RUN_FILE}, which are stored runs)"
        )
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
    """Split a single text; its last part is the test text."""
    end = len(text) - math.ceil(test_fraction * len(text))
    return Corpus(train=(text[:end],), test=(text[end:],))


def _names(root: Path, suffixes: tuple[str, ...] | None, is_library: bool) -> list[str]:
    """Relative paths of the files to read below `root`, sorted, with "/" as separator."""

    def shown(name: str) -> bool:
        return not name.startswith(".") and not (is_library and name.startswith(LEFT_OUT_PREFIXES))

    def wanted(name: str) -> bool:
        return shown(name) and (suffixes is None or name.endswith(suffixes))

    def enters(name: str) -> bool:
        return shown(name) and not (is_library and name in LEFT_OUT_FOLDERS)

    found = files_below(root, wanted, enters, links=False)
    check_size(root, sum(found.values()))
    return sorted("/".join(parts) for parts in found)


def _read(path: Path) -> bytes:
    """The bytes of a file; empty if it cannot be read."""
    try:
        return read_file(path)
    except TextMissing:
        return b""
