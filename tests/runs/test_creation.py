"""Folders of new runs: what ended processes left is removed, what living ones make is not, also when both are at work at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from playground.runs import creation
from playground.runs.creation import PREFIX, make_folder
from playground.runs.errors import RunError
from playground.runs.lock import LOCK, acquire, is_locked
from playground.runs.store import read_record
from tasks.registry import make_task
from tests.fake_runs import write_run
from tests.running.test_runner import tiny


@pytest.fixture
def make(tmp_path):
    """Makes a run's folder in `runs`, and gives its lock up unless told otherwise."""
    record = read_record(write_run(tmp_path / "prepared", steps=20, done=0, state="stopped"))
    task = make_task(tiny().task)

    def made(name: str, *, held: bool = False):
        written, lock = make_folder(tmp_path / "runs" / name, tiny(), record, task)
        assert is_locked(tmp_path / "runs" / name)
        if not held:
            lock.release()
        return written, lock

    (tmp_path / "runs").mkdir()
    return made


@pytest.mark.parametrize("left", ["", "run", f"run/{LOCK}", "run/config.json"])
def test_what_an_ended_process_left_is_removed(make, tmp_path, left):
    outer = tmp_path / "runs" / f"{PREFIX}abc"
    outer.mkdir()
    if left:
        (outer / "run").mkdir()
    if "/" in left:
        (outer / "run" / LOCK).touch()
        (outer / left).touch()
    make("one")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["run/thesis.txt", "notes/a.txt", "run/probes/mine.jsonl", "a.txt"])
def test_a_folder_that_holds_anything_else_stays(make, tmp_path, name):
    folder = tmp_path / "runs" / f"{PREFIX}thesis" / "run"
    folder.mkdir(parents=True)
    (folder / LOCK).touch()
    (folder.parent / name).parent.mkdir(exist_ok=True)
    (folder.parent / name).write_text("mine")
    make("one")
    assert (folder / LOCK).exists() and (folder.parent / name).read_text() == "mine"


def test_what_another_process_makes_stays(make, tmp_path):
    folder = tmp_path / "runs" / f"{PREFIX}abc" / "run"
    folder.mkdir(parents=True)
    with acquire(folder):
        make("one")
        assert folder.is_dir()
    make("two")
    assert not folder.exists()


def test_a_folder_that_vanishes_while_it_is_made_is_made_again(make, tmp_path, monkeypatch):
    tries = []

    def vanishing(path):
        tries.append(path)
        if len(tries) < 3:
            path.rmdir()
            raise FileNotFoundError(path)
        return acquire(path)

    monkeypatch.setattr(creation, "acquire", vanishing)
    make("one")
    assert len(tries) == 3 and [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]

    monkeypatch.setattr(creation, "acquire", lambda path: (path.rmdir(), acquire(path.parent / "gone"))[1])
    monkeypatch.setattr(creation, "is_locked", lambda _path: False)
    with pytest.raises(RunError, match="disappear while they are made"):
        make("two")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


def test_many_are_made_at_once(make, tmp_path):
    names = [f"run-{number}" for number in range(60)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(make, names))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(names)
    for name in names:
        assert json.loads((tmp_path / "runs" / name / "config.json").read_text())["seed"] == 0


def test_of_two_with_one_name_one_is_refused(make, tmp_path):
    def attempt(_number):
        try:
            return make("one", held=True)[1]
        except RunError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(attempt, range(8)))
    refused = [answer for answer in done if isinstance(answer, str)]
    assert len(refused) == 7 and all("choose another id" in answer for answer in refused)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]
