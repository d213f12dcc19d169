"""Removing runs: what the lock says decides, and only a run's own files in the runs folder go."""

import os
import shutil
import time
from pathlib import Path

import pytest

from playground.cli import main
from playground.runs.errors import RunError
from playground.runs.lock import probing_lock, run_lock
from playground.runs.removal import remove_run
from playground.runs.store import Run, find_run, load_run
from tests.fake_runs import let_go, write_run, write_weights


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "interrupted"])
def test_a_run_that_is_not_training_is_removed_whole(tmp_path, state):
    run, other = load_run(write_run(tmp_path, steps=40, state=state)), write_run(tmp_path, steps=40, seed=1)
    write_weights(run.path, [0, 20, 40])
    for name in ("set-aside", "task", "checkpoints/.20.tmp"):
        (run.path / name).mkdir()
    for name in (
        "set-aside/metrics.jsonl",
        "task/tokenizer.json",
        ".run.json.77.tmp",
        ".lock",
        "checkpoints/.20.tmp/weights.safetensors",
    ):
        (run.path / name).touch()
    assert run.record.state == state
    assert remove_run(run) == []
    assert list(tmp_path.iterdir()) == [other]


def test_a_run_whose_lock_is_held_is_not_removed_whatever_its_record_says(tmp_path, monkeypatch):
    runs = {state: load_run(write_run(tmp_path / state, steps=40, state=state)) for state in ("running", "finished")}
    monkeypatch.setattr(time, "time", lambda: 10.0)
    for state, run in runs.items():
        before = contents(run.path)
        if state == "running":
            with pytest.raises(RunError, match="is being trained by another process; wait for it, or stop it"):
                remove_run(run)
            let_go(run.path)
        for lock in (run_lock, probing_lock):
            with lock(run.path), pytest.raises(RunError, match="by another process"):
                remove_run(run)
        assert set(before) <= set(contents(run.path))
        assert remove_run(run) == [] and not run.path.exists()


def test_a_run_that_says_that_another_machine_trains_it_needs_force(tmp_path):
    run = load_run(write_run(tmp_path, steps=40, state="interrupted", host="elsewhere"))
    with pytest.raises(RunError, match=r"last trained on another machine \(elsewhere\).*--force"):
        remove_run(run)
    assert remove_run(run, force=True) == [] and not run.path.exists()


def test_files_that_are_not_a_runs_are_kept_and_named(tmp_path):
    run = load_run(write_run(tmp_path, steps=40))
    write_weights(run.path, [0])
    odd = ("probes/my-notes.jsonl", "set-aside/thesis.txt", "task/my_own.json", ".mine.7.tmp")
    for name in ("notes.txt", "probes/picture.png", "checkpoints/0/more.bin", "mine/deep.txt", *odd):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("mine")
    kept = sorted(["checkpoints/0/more.bin", "mine", "mine/deep.txt", "notes.txt", "probes/picture.png", *odd])
    assert remove_run(run) == kept
    assert contents(run.path) == sorted([*kept, "checkpoints", "checkpoints/0", "probes", "set-aside", "task"])


@pytest.mark.parametrize("closed", ["", "checkpoints", "checkpoints/20", "probes", ".."])
def test_nothing_is_removed_where_not_all_can_be(tmp_path, monkeypatch, closed):
    """Whether a folder may be changed is asked of the system, which lets root change all of them."""
    run = load_run(write_run(tmp_path / "runs", steps=40))
    write_weights(run.path, [0, 20, 40])
    folder, access = (run.path / closed).resolve(), os.access
    before = contents(run.path)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).resolve() != folder and access(path, mode))
    with pytest.raises(RunError, match="may not be changed by this user, so nothing was removed"):
        remove_run(run)
    assert [name for name in contents(run.path) if "lock" not in name] == before


@pytest.mark.parametrize("name", [".", "./", "sub/..", "../runs", "elsewhere", "deep", "link"])
def test_only_direct_children_of_the_runs_folder_are_removed(tmp_path, monkeypatch, capsys, name):
    runs = tmp_path / "runs"
    path = write_run(runs, steps=40)
    (runs / "sub").mkdir()
    (runs / "own.txt").write_text("mine")
    shutil.copy(path / "run.json", runs / "run.json")
    elsewhere = write_run(tmp_path / "other", steps=40)
    (runs / "link").symlink_to(elsewhere)
    shutil.copytree(path, path / "deep")
    names = {"elsewhere": str(elsewhere), "deep": f"{path.name}/deep"}
    before = contents(tmp_path)
    monkeypatch.chdir(runs)
    assert main(["runs", "rm", names.get(name, name), "--runs-dir", "."]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert [one for one in contents(tmp_path) if not one.endswith("lock")] == before


def test_a_removal_that_was_cut_short_can_be_repeated(tmp_path, monkeypatch):
    run = load_run(write_run(tmp_path, steps=40))
    write_weights(run.path, [0, 20])
    calls = iter(range(100))
    unlink = Path.unlink

    def dying(self: Path, missing_ok: bool = False) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            remove_run(run)
    assert remove_run(find_run(run.id, tmp_path)) == [] and not run.path.exists()


def test_the_command_says_what_it_removed_and_what_it_kept(tmp_path, capsys):
    path = write_run(tmp_path, steps=40)
    (path / "notes.txt").write_text("mine")
    assert main(["runs", "rm", path.name, "--runs-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"removed {path.name}; kept in {path}, not part of the run: notes.txt\n"
    assert contents(path) == ["notes.txt"]


def test_what_may_not_be_removed_is_a_sentence(tmp_path, monkeypatch):
    run = Run(write_run(tmp_path, steps=40))

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", os.fspath(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match="permission denied"):
        remove_run(run)
