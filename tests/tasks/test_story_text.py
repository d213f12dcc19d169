"""Stories from files: the order they are read in, what is said of wrong ones, and moved ones."""

import os
from pathlib import Path

import pytest

from tasks import make_task
from tasks.story_text import SEPARATOR, read_stories


def test_a_folder_is_read_in_order_and_no_further_than_asked(tmp_path: Path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text(f"{name} one{SEPARATOR}{name} two{SEPARATOR}\n", encoding="utf-8")
    assert read_stories(str(tmp_path)) == ["a one", "a two", "b one", "b two"]
    assert read_stories(str(tmp_path), 3) == ["a one", "a two", "b one"]


def test_wrong_files_are_answered_with_what_to_do(tmp_path: Path):
    with pytest.raises(ValueError, match="there is nothing at"):
        make_task("stories", path=str(tmp_path / "missing.txt"))
    with pytest.raises(ValueError, match=r"holds no \.txt file"):
        make_task("stories", path=str(tmp_path))
    file = tmp_path / "one.txt"
    file.write_text("Once upon a time.", encoding="utf-8")
    with pytest.raises(ValueError, match="write it between the stories"):
        make_task("stories", path=str(file))
    file.write_text(SEPARATOR, encoding="utf-8")
    with pytest.raises(ValueError, match="write more stories"):
        make_task("stories", path=str(file))
    file.write_bytes(b"Once \xff" + SEPARATOR.encode())
    with pytest.raises(ValueError, match=r"is not UTF-8 \(byte 5\)"):
        make_task("stories", path=str(file))


def test_line_ends_are_those_of_text_files(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree" + SEPARATOR.encode() + b"\r\n four")
    assert read_stories(str(tmp_path)) == ["one\ntwo\nthree", "four"]


def test_hidden_and_linked_files_are_read_and_linked_folders_are_not(tmp_path: Path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    for place in (folder / ".hidden", elsewhere):
        place.mkdir(parents=True)
        (place / "a.txt").write_text(f"{place.name} one{SEPARATOR}", encoding="utf-8")
    (folder / "b.txt").symlink_to(elsewhere / "a.txt")
    (folder / "c").symlink_to(elsewhere)
    assert read_stories(str(folder)) == [".hidden one", "elsewhere one"]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text(f"one{SEPARATOR}two", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read_stories("~/a.txt") == read_stories("~") == ["one", "two"]
    with pytest.raises(ValueError, match="home of a user that is unknown"):
        read_stories("~no-such-user/a.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_refused_and_left_out_of_a_folder(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match="neither a file nor a folder but a pipe"):
        read_stories(str(tmp_path / "pipe.txt"))
    (tmp_path / "a.txt").write_text(f"one{SEPARATOR}two", encoding="utf-8")
    assert read_stories(str(tmp_path)) == ["one", "two"]
