"""Values read from files: read once, and again only when a file has changed."""

import json
import os
from pathlib import Path

import pytest

from playground.runs.cached import FileCache


class Parser:
    """Reads a file as text and remembers how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path) -> str:
        self.calls += 1
        return path.read_text()


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache()
    assert cache.get(path, parse) is cache.get(path, parse)
    assert parse.calls == 1


def test_a_file_is_parsed_again_when_it_grows(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache()
    cache.get(path, parse)
    path.write_text("one more")
    assert cache.get(path, parse) == "one more" and parse.calls == 2


def test_a_file_is_parsed_again_when_only_its_time_changes(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache()
    cache.get(path, parse)
    path.write_text("two")
    os.utime(path, ns=(0, 12_345))
    assert cache.get(path, parse) == "two" and parse.calls == 2


def test_files_are_kept_apart(tmp_path: Path) -> None:
    cache, parse = FileCache(), Parser()
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert [cache.get(tmp_path / name, parse) for name in ("a", "b", "a")] == ["a", "b", "a"]


def test_a_file_that_is_gone_raises_though_it_was_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    cache, parse = FileCache(), Parser()
    cache.get(path, parse)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.get(path, parse)


def test_what_could_not_be_parsed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("{")
    cache = FileCache()

    def parse(path: Path) -> object:
        return json.loads(path.read_text())

    with pytest.raises(ValueError, match="Expecting"):
        cache.get(path, parse)
    path.write_text("{}")
    assert cache.get(path, parse) == {}


def test_kinds_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    cache, parse = FileCache(), Parser()
    assert [cache.get(path, parse, kind) for kind in ("text", "text", "again")] == ["one"] * 3
    assert parse.calls == 2


def test_a_file_that_is_not_there_is_left_to_the_reader(tmp_path: Path) -> None:
    assert FileCache().get(tmp_path / "nowhere", lambda path: path.name) == "nowhere"
