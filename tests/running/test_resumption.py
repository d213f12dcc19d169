"""Going on after damage: what is refused leaves the run as it was, what can be passed over is, and no line is lost."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from playground.cli import main
from playground.running.reporter import Silent
from playground.running.runner import resume, train
from playground.runs.errors import Denied, RunError
from playground.runs.lock import probing_lock
from playground.runs.store import Run, load_run
from playground.runs.writing import write_json
from tests.running.test_runner import same_numbers, tiny


def stopped(folder: Path, at: int = 17, **options) -> Run:
    asked = iter(range(1000))
    return train(tiny(**options), folder, should_stop=lambda: "enough" if next(asked) == at else "")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Notes(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.safetensors", "resume.safetensors", "checkpoint.json"])
def test_the_newest_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, name):
    run, notes = stopped(tmp_path / "stopped"), Notes()
    path = run.path / "checkpoints" / "17" / name
    path.write_text("{") if name.endswith("json") else flip(path)
    resumed = resume(load_run(run.path), reporter=notes)
    assert resumed.record.state == "finished"
    assert len(notes.notes) == 1 and "goes on from step 14" in notes.notes[0] and "damaged" in notes.notes[0]
    shutil.rmtree(run.path / "checkpoints" / "17")
    same_numbers(resumed.path, train(tiny(), tmp_path / "whole").path)


def _config(**part) -> "object":
    def change(path: Path) -> None:
        values = json.loads((path / "config.json").read_text())
        for name, fields in part.items():
            values[name] = values[name] | fields if isinstance(fields, dict) else fields
        write_json(path / "config.json", values)

    return change


def _record(path: Path, **changes) -> None:
    write_json(path / "run.json", json.loads((path / "run.json").read_text()) | changes)


def _damage_all(path: Path) -> None:
    for file in (path / "checkpoints").rglob("resume.safetensors"):
        flip(file)


def _other_device(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for folder in (path / "checkpoints").iterdir():
        file = folder / "resume.safetensors"
        if file.exists():
            tensors = load_file(file)
            tensors["generator"] = torch.zeros(16, dtype=torch.uint8)  # that of a GPU is shorter
            save_file(tensors, file)
            (folder / "checkpoint.json").unlink()


def _each_checkpoint(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def change_all(path: Path) -> None:
        for folder in list((path / "checkpoints").iterdir()):
            change(folder)

    return change_all


REFUSED = {
    "no checkpoint to go on from": (
        _each_checkpoint(lambda folder: (folder / "resume.safetensors").unlink(missing_ok=True)),
        "has come to step 17, and no checkpoint to go on from is left",
    ),
    "renamed checkpoints": (
        _each_checkpoint(lambda folder: folder.rename(f"{folder}.bak")),
        "has come to step 17, and no checkpoint to go on from is left",
    ),
    "checkpoints moved away": (
        lambda path: (path / "checkpoints").rename(path / "old"),
        "has come to step 17, and no checkpoint to go on from is left",
    ),
    "checkpoints and the rows of a record that knows nothing": (
        lambda path: (shutil.rmtree(path / "checkpoints"), _record(path, step=0)),
        "has come to step 16, and no checkpoint",
    ),
    "another learning rate": (_config(optim={"lr": 0.5}), "is not the configuration"),
    "another seed": (_config(seed=5), "is not the configuration"),
    "another batch size": (_config(train={"batch_size": 16}), "is not the configuration"),
    "a configuration that is none": (lambda path: (path / "config.json").write_text("{"), r"config\.json is damaged"),
    "every checkpoint damaged": (_damage_all, "has no whole checkpoint to go on from"),
    "another device": (_other_device, "is from another kind of device"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_resume_leaves_the_run_as_it_was(tmp_path, case):
    change, message = REFUSED[case]
    run = stopped(tmp_path)
    change(run.path)
    before = snapshot(run.path)
    with pytest.raises(RunError, match=message):
        resume(load_run(run.path))
    assert snapshot(run.path) == before
    assert main(["resume", run.id, "--runs-dir", str(tmp_path), "--json"]) == 2
    assert snapshot(run.path) == before


def test_a_resume_refused_for_its_text_leaves_the_run_as_it_was(tmp_path, text_run):
    run, text = text_run
    before = snapshot(run.path)
    text.write_text(text.read_text().replace("value", "other"))
    for change in (lambda: None, text.unlink):
        change()
        with pytest.raises(RunError, match="cannot go on"):
            resume(load_run(run.path))
        assert snapshot(run.path) == before


@pytest.mark.parametrize("bad", [b"{\n", b"\xff\xfe\n", b"[1]\n", b'{"kind": "train", "step": "3"}\n'])
@pytest.mark.parametrize("name", ["metrics.jsonl", "probes/attention.jsonl"])
def test_a_broken_line_in_the_middle_costs_no_other_line(tmp_path, name, bad):
    run, whole = stopped(tmp_path / "stopped"), train(tiny(), tmp_path / "whole")
    path = run.path / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], bad, *lines[2:]]))
    resumed = resume(load_run(run.path))
    found = path.read_bytes().splitlines(keepends=True)
    assert found[2] == bad and len(found) == len((whole.path / name).read_bytes().splitlines()) + 1
    path.write_bytes(b"".join([*found[:2], *found[3:]]))
    same_numbers(resumed.path, whole.path)


def test_lines_after_the_checkpoint_are_kept_until_they_have_been_written_again(tmp_path):
    run = stopped(tmp_path, at=25, checkpoint_every=20)
    shutil.rmtree(run.path / "checkpoints" / "25")
    before = (run.path / "metrics.jsonl").read_bytes()
    asked = iter(range(1000))
    again = resume(load_run(run.path), should_stop=lambda: "enough" if next(asked) == 1 else "")
    aside = run.path / "set-aside" / "metrics.jsonl"
    assert again.record.step == 21
    for line in before.splitlines():
        assert line in (run.path / "metrics.jsonl").read_bytes() + aside.read_bytes()
    assert resume(load_run(run.path)).record.state == "finished"
    assert not aside.exists()


def test_two_states_to_go_on_from_are_kept(tmp_path):
    run = stopped(tmp_path)
    assert sorted(int(path.parent.name) for path in run.path.rglob("resume.safetensors")) == [14, 17]


def test_a_missing_optimizer_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    run = stopped(tmp_path)
    for folder in (run.path / "checkpoints").iterdir():
        (folder / "checkpoint.json").unlink()
        file = folder / "resume.safetensors"
        if file.exists():
            save_file({key: value for key, value in load_file(file).items() if not key.startswith("optimizer")}, file)
    with pytest.raises(RunError, match="no optimizer state"):
        resume(load_run(run.path))


def test_a_clock_that_goes_back_does_not_freeze_progress(tmp_path, monkeypatch):
    import time

    from playground.running import session

    now, moments = time.time(), iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: now - 1000.0 * next(moments))
    monkeypatch.setattr(session, "PROGRESS_EVERY", 0.0)
    steps: list[int] = []

    class Watching(Silent):
        def row(self, row, record) -> None:
            steps.append(record.step)

    train(tiny(probe_points=0), tmp_path, reporter=Watching())
    assert steps[-1] == 30 and 20 in steps


# --- tasks that read files ----------------------------------------------------------------------------------------------


@pytest.fixture
def text_run(tmp_path):
    """A stopped run on the bytes of a file, and the file."""
    from tasks.byte_text import ByteTextConfig

    text = tmp_path / "text.py"
    text.write_text("value = 1 + 2\n" * 100)
    config = dataclasses.replace(tiny(), task=ByteTextConfig(path=str(text), n_ctx=12, test_rows=4, quick_rows=2))
    asked = iter(range(1000))
    run = train(config, tmp_path / "runs", should_stop=lambda: "enough" if next(asked) == 9 else "")
    return run, text


@pytest.mark.parametrize("where", ["checkpoints", "checkpoints/17"])
def test_checkpoints_that_may_not_be_read_are_not_absent(tmp_path, monkeypatch, where):
    """They are not begun anew over, and not passed over either: who may read them gets them back."""
    run = stopped(tmp_path)
    before, closed, stat = snapshot(run.path), run.path / where, os.stat

    def refuse(call):
        def asked(path, *args, **options):
            itself = closed == Path(path) and call is not stat
            if itself or closed in Path(path).parents:
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *args, **options)

        return asked

    with monkeypatch.context() as patch:
        for name in ("scandir", "open", "stat"):
            patch.setattr(f"os.{name}", refuse(getattr(os, name)))
        with pytest.raises(Denied, match="may not be read by this user"):
            resume(load_run(run.path))
    assert snapshot(run.path) == before
    assert resume(load_run(run.path)).record.state == "finished"


@pytest.mark.parametrize("how", ["another run", "a copy", "nothing"])
def test_a_training_whose_folder_is_replaced_writes_no_more(tmp_path, how):
    path, moved, at = tmp_path / "one", tmp_path / "moved", iter(range(1000))
    left: dict[str, bytes] = {}
    other = train(tiny(), tmp_path, run_id="other").path if how == "another run" else None

    def replace() -> str:
        if next(at) == 9:
            path.rename(moved)
            if other is not None:
                other.rename(path)
            elif how == "a copy":
                shutil.copytree(moved, path)
            left.update(snapshot(path) if path.exists() else {})
        return ""

    with pytest.raises(RunError, match="was moved, removed or replaced while it was trained"):
        train(tiny(), tmp_path, run_id="one", should_stop=replace)
    assert (snapshot(path) if path.exists() else {}) == left
    assert resume(load_run(moved)).record.state == "finished"


def test_a_run_is_trained_or_probed_but_not_both(tmp_path):
    run = stopped(tmp_path)
    before = snapshot(run.path)
    with probing_lock(run.path), pytest.raises(RunError, match="is being probed by another process; wait for it"):
        resume(run)
    assert snapshot(run.path) == before
