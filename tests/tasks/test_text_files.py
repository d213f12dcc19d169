"""Which files are text: regular ones of bounded size, none of a stored run, and nothing that makes a reader wait."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import text_files
from tasks.base import TextMissing
from tasks.corpus import load_corpus
from tasks.story_text import SEPARATOR, read_stories
from tasks.text_files import read_file

STORY = f"one{SEPARATOR}two{SEPARATOR}"


def read_both(path: Path) -> tuple[list[str], set[bytes]]:
    corpus = load_corpus(str(path), None, 0.5)
    return read_stories(str(path)), {*corpus.train, *corpus.test}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "text"
    place.mkdir()
    for name in ("a.txt", "b.txt"):
        (place / name).write_text(f"{name} {STORY}", encoding="utf-8")
    return place


def add_run(folder: Path) -> None:
    """A run, as it is while it is trained, with files that look like text."""
    for name in ("run.json", "notes.txt", "probes/attention.txt", "checkpoints/1/more.txt"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"of a run {SEPARATOR}", encoding="utf-8")


def test_stored_runs_inside_a_text_folder_are_no_text(folder: Path):
    before = read_both(folder)
    add_run(folder / "runs" / "one")
    add_run(folder / "runs" / "group" / "two")
    for name in (".jobs/one.txt", ".new-abc/run/notes.txt"):
        file = folder / "runs" / name
        file.parent.mkdir(parents=True)
        file.write_text(f"half a run {SEPARATOR}", encoding="utf-8")
    assert read_both(folder) == before
    (folder / "notrun").mkdir()
    (folder / "notrun" / "run.json.txt").write_text(f"text {SEPARATOR}", encoding="utf-8")
    (folder / "run.json").mkdir()  # a folder of this name makes no run
    assert len(read_stories(str(folder))) == len(before[0]) + 1


@pytest.mark.parametrize("read", [read_stories, lambda path: load_corpus(path, None, 0.5)], ids=["stories", "bytes"])
def test_a_folder_that_is_a_run_holds_no_text(tmp_path: Path, read: Callable[[str], object]):
    add_run(tmp_path)
    with pytest.raises(TextMissing, match=r"run\.json"):
        read(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_only_regular_files_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = read_both(folder)
    os.mkfifo(folder / "pipe.txt")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "up").symlink_to(folder)
    with socket.socket(socket.AF_UNIX) as unix_socket:
        monkeypatch.chdir(folder)  # the path of a socket must be short
        unix_socket.bind("socket.txt")
        assert read_both(folder) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize("read", [read_stories, lambda path: load_corpus(path, None, 0.5)], ids=["stories", "bytes"])
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "long", "below a file", "nowhere"])
def test_a_path_that_is_no_file_is_refused(folder: Path, kind: str, read: Callable[[str], object]):
    paths = {
        "pipe": folder / "pipe",
        "device": Path("/dev/zero"),
        "loop": folder / "loop",
        "long": folder / ("a" * 2000),
        "below a file": folder / "a.txt" / "b.txt",
        "nowhere": folder / "nowhere",
    }
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(TextMissing, match="write the path of") as caught:
        read(str(paths[kind]))
    assert len(str(caught.value)) < 500


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    true_open = os.open

    def refuse(path: Path, *args: int) -> int:  # the user that runs the tests may be one that may read everything
        if Path(path).name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return true_open(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert load_corpus(str(folder), None, 0.5) == load_corpus(str(folder / "b.txt"), None, 0.5)
    with pytest.raises(TextMissing, match=r"a\.txt cannot be read \(Permission denied\)"):
        read_stories(str(folder))


def test_a_file_that_grows_while_it_is_read_ends(folder: Path, monkeypatch: pytest.MonkeyPatch):
    file, true_fstat = folder / "a.txt", os.fstat

    def grow(handle: int) -> os.stat_result:
        found = true_fstat(handle)
        with file.open("ab") as more:
            more.write(b"x" * 1000)
        return found

    before = file.read_bytes()
    monkeypatch.setattr(os, "fstat", grow)
    assert read_file(file) == before


def test_more_text_than_is_read_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with (folder / "large.txt").open("wb") as file:
        file.truncate(text_files.MOST_BYTES + 1)
    for read in (read_stories, lambda path: load_corpus(path, None, 0.5)):
        for path in (folder, folder / "large.txt"):
            with pytest.raises(ValueError, match=r"has more than 8,000,000,000 bytes"):
                read(str(path))
    (folder / "large.txt").unlink()
    monkeypatch.setattr(text_files, "MOST_BYTES", 50)
    with pytest.raises(ValueError, match="has more than 50 bytes"):
        read_stories(str(folder))
    assert len(read_stories(str(folder), 2)) == 2  # the first file alone is read


def test_a_tilde_is_the_home_folder_in_both_readers(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder.parent))
    assert read_both(Path("~/text")) == read_both(folder)
