"""Stored runs as the pages read them: parsed once, and again only when a file has changed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from playground.runs.record import default_runs_dir
from playground.runs.writing import append_line
from playground.ui.shared.files import FileCache, Store, StoredRun, read_store
from tests.fake_runs import STATES, write_run
from tests.ui.support import change_json, cut_last_line, cut_short


class Parser:
    """Reads a file as text and remembers how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path) -> str:
        self.calls += 1
        return path.read_text()


def only(folder: Path) -> StoredRun:
    (run,) = read_store(folder).runs
    return run


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache(parse)
    assert cache.get(path) is cache.get(path)
    assert parse.calls == 1


def test_a_file_is_parsed_again_when_it_grows(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache(parse)
    cache.get(path)
    path.write_text("one more")
    assert cache.get(path) == "one more" and parse.calls == 2


def test_a_file_is_parsed_again_when_only_its_time_changes(tmp_path: Path) -> None:
    parse, path = Parser(), tmp_path / "a"
    path.write_text("one")
    cache = FileCache(parse)
    cache.get(path)
    path.write_text("two")
    os.utime(path, ns=(0, 12_345))
    assert cache.get(path) == "two" and parse.calls == 2


def test_files_are_kept_apart(tmp_path: Path) -> None:
    cache = FileCache(Parser())
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert [cache.get(tmp_path / name) for name in ("a", "b", "a")] == ["a", "b", "a"]


def test_a_file_that_is_gone_raises_though_it_was_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    cache = FileCache(Parser())
    cache.get(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.get(path)


def test_what_could_not_be_parsed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("{")
    cache = FileCache(lambda path: json.loads(path.read_text()))
    with pytest.raises(ValueError, match="Expecting"):
        cache.get(path)
    path.write_text("{}")
    assert cache.get(path) == {}


def test_everything_of_a_run_is_shared_until_its_files_change(runs: Path) -> None:
    path = write_run(runs, steps=40)
    first, second = only(runs), only(runs)
    assert first.record is second.record
    assert first.config is second.config
    assert first.metrics is second.metrics
    assert first.attention is second.attention
    before, attention = len(first.metrics), first.attention
    change_json(path / "run.json", step=41)
    append_line(path / "metrics.jsonl", {"kind": "train", "step": 41, "tokens": 1, "seconds": 1.0, "loss_1": 0.5})
    third = only(runs)
    assert third.record.step == 41
    assert len(third.metrics) == before + 1
    assert third.attention is attention


def test_a_run_is_the_same_object_until_one_of_its_files_changes(runs: Path) -> None:
    path, other = write_run(runs, steps=40, created=1.0), write_run(runs, steps=40, seed=1, created=2.0)
    first, beside = read_store(runs).runs
    assert read_store(runs).runs == (first, beside) and len(first.metrics) and len(beside.metrics)
    append_line(path / "metrics.jsonl", {"kind": "train", "step": 41, "tokens": 1, "seconds": 1.0, "loss_1": 0.5})
    second, still = read_store(runs).runs
    assert second is not first and still is beside and len(second.metrics) == len(first.metrics) + 1
    (other / "metrics.jsonl").unlink()
    changed, gone = read_store(runs).runs
    assert changed is second and gone is not beside and gone.metrics.empty and len(beside.metrics)


def test_a_run_that_may_not_be_read_for_a_while_comes_back(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(runs, steps=40)
    run = only(runs)
    contents = (path / "run.json").read_text()
    cut_short(path / "run.json")
    assert read_store(runs).runs == () and read_store(runs).broken
    (path / "run.json").write_text(contents)
    assert only(runs) is not run and only(runs).record == run.record


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_runs_holds_none(runs: Path, there: bool) -> None:
    folder = runs if there else runs / "nowhere"
    assert read_store(folder) == Store(folder, (), ())


def test_a_file_in_the_place_of_the_folder_holds_no_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert read_store(tmp_path / "runs").runs == ()


def test_runs_come_oldest_first_whatever_their_names(runs: Path) -> None:
    old = write_run(runs, seed=5, created=100.0)
    new = write_run(runs, seed=1, created=200.0)
    assert [run.id for run in read_store(runs).runs] == [old.name, new.name]


@pytest.mark.parametrize("state", STATES)
def test_a_run_of_every_state_is_read(runs: Path, state: str) -> None:
    write_run(runs, steps=20, state=state)
    assert only(runs).record.state == state


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, "run.json is missing"),
        ("", "run.json is damaged"),
        ('{"run": "a", "sta', "run.json is damaged"),
        ("[]", "run.json is damaged"),
        ("null", "run.json is damaged"),
        ('{"run": "a"}', "it has no 'status'"),
    ],
)
def test_a_folder_that_is_no_run_is_listed_with_its_reason(runs: Path, contents: str | None, says: str) -> None:
    whole = write_run(runs, steps=20)
    (runs / "broken").mkdir()
    if contents is not None:
        (runs / "broken" / "run.json").write_text(contents)
    store = read_store(runs)
    assert [run.id for run in store.runs] == [whole.name]
    ((name, problem),) = store.broken
    assert name == "broken" and says in problem


def test_hidden_folders_and_files_are_neither(runs: Path) -> None:
    (runs / ".jobs").mkdir()
    (runs / "notes.txt").write_text("mine")
    assert read_store(runs) == Store(runs, (), ())


def test_a_copied_run_goes_by_the_name_of_its_folder(runs: Path) -> None:
    path = write_run(runs, steps=20)
    shutil.copytree(path, runs / "copy")
    store = read_store(runs)
    assert {run.id for run in store.runs} == {path.name, "copy"}
    assert store.find("copy").path == runs / "copy"


def test_a_run_is_found_by_its_id(runs: Path) -> None:
    path = write_run(runs, steps=20)
    store = read_store(runs)
    assert store.find(path.name).path == path
    assert store.find("nobody") is None


@pytest.mark.parametrize("damage", [Path.unlink, cut_short])
def test_without_its_configuration_a_run_is_named_as_damaged_beside_the_others(runs: Path, damage) -> None:
    path, other = write_run(runs, steps=20, n_future=2, seed=3), write_run(runs, steps=20)
    damage(path / "config.json")
    store = read_store(runs)
    assert [run.id for run in store.runs] == [other.name]
    ((name, problem),) = store.broken
    assert name == path.name and "config.json" in problem


def test_without_rows_a_run_has_empty_tables(runs: Path) -> None:
    path = write_run(runs, steps=20)
    (path / "metrics.jsonl").unlink()
    (path / "probes/attention.jsonl").unlink()
    run = only(runs)
    assert run.metrics.empty and {"kind", "step", "tokens", "seconds"} <= set(run.metrics)
    assert run.attention.steps == () and run.attention.results == ()


def test_an_empty_file_of_metrics_is_an_empty_table(runs: Path) -> None:
    (write_run(runs, steps=20) / "metrics.jsonl").write_text("")
    assert only(runs).metrics.empty


@pytest.mark.parametrize("name", ["metrics.jsonl", "probes/attention.jsonl"])
def test_a_line_cut_short_costs_that_line_only(runs: Path, name: str) -> None:
    path = write_run(runs, steps=60)
    before = len((path / name).read_text().splitlines())
    cut_last_line(path / name)
    run = only(runs)
    assert len(run.metrics if name == "metrics.jsonl" else run.attention.steps) == before - 1


def test_checkpoints_are_steps_in_order(runs: Path) -> None:
    path = write_run(runs, steps=20)
    assert only(runs).checkpoints == []
    for name in ("100", "20", "0", ".40.tmp", "notes"):
        (path / "checkpoints" / name).mkdir(parents=True)
    assert only(runs).checkpoints == [0, 20, 100]


@pytest.mark.parametrize(("value", "folder"), [("elsewhere", "elsewhere"), ("", "runs"), (None, "runs")])
def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, value: str | None, folder: str) -> None:
    if value is None:
        monkeypatch.delenv("PLAYGROUND_RUNS_DIR", raising=False)
    else:
        monkeypatch.setenv("PLAYGROUND_RUNS_DIR", value)
    assert default_runs_dir() == Path(folder)
