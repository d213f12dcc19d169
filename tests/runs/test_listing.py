"""Listings of runs: each run is read once, and again only when one of its files has changed; damaged parts are empty on pages."""

import json
import shutil
from pathlib import Path

import pytest

from playground.config.stored import hash_values
from playground.results import AttentionScores
from playground.runs.errors import Damaged, RunError
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, Store, list_runs, read_store
from playground.runs.writing import append_line, write_json
from tests.fake_runs import STATES, write_run
from tests.ui.support import change_json, cut_last_line, cut_short


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder of runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def only(folder: Path) -> Run:
    (run,) = read_store(folder, lenient=True).runs
    return run


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
    first, beside = read_store(runs, lenient=True).runs
    assert read_store(runs, lenient=True).runs == (first, beside)
    before = len(first.metrics)
    append_line(path / "metrics.jsonl", {"kind": "train", "step": 41, "tokens": 1, "seconds": 1.0, "loss_1": 0.5})
    second, still = read_store(runs, lenient=True).runs
    assert second is not first and still is beside and len(second.metrics) == before + 1
    (other / "metrics.jsonl").unlink()
    changed, gone = read_store(runs, lenient=True).runs
    assert changed is second and gone is not beside and gone.metrics.empty


def test_a_run_that_may_not_be_read_for_a_while_comes_back(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(runs, steps=40)
    run = only(runs)
    contents = (path / "run.json").read_text()
    cut_short(path / "run.json")
    assert read_store(runs, lenient=True).runs == () and read_store(runs, lenient=True).broken
    (path / "run.json").write_text(contents)
    assert only(runs) is not run and only(runs).record == run.record


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_runs_holds_none(runs: Path, there: bool) -> None:
    folder = runs if there else runs / "nowhere"
    assert read_store(folder, lenient=True) == Store(folder, (), ())


def test_a_file_in_the_place_of_the_folder_holds_no_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert read_store(tmp_path / "runs", lenient=True).runs == ()


def test_runs_come_oldest_first_whatever_their_names(runs: Path) -> None:
    old = write_run(runs, seed=5, created=100.0)
    new = write_run(runs, seed=1, created=200.0)
    assert [run.id for run in read_store(runs, lenient=True).runs] == [old.name, new.name]


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
    store = read_store(runs, lenient=True)
    assert [run.id for run in store.runs] == [whole.name]
    (folder,) = store.broken
    assert folder.path == runs / "broken" and says in folder.problem


def test_hidden_folders_and_files_are_neither(runs: Path) -> None:
    (runs / ".jobs").mkdir()
    (runs / "notes.txt").write_text("mine")
    assert read_store(runs, lenient=True) == Store(runs, (), ())


def test_a_copied_run_goes_by_the_name_of_its_folder(runs: Path) -> None:
    path = write_run(runs, steps=20)
    shutil.copytree(path, runs / "copy")
    store = read_store(runs, lenient=True)
    assert {run.id for run in store.runs} == {path.name, "copy"}
    assert store.find("copy").path == runs / "copy"


def test_a_run_is_found_by_its_id(runs: Path) -> None:
    path = write_run(runs, steps=20)
    store = read_store(runs, lenient=True)
    assert store.find(path.name).path == path
    assert store.find("nobody") is None


@pytest.mark.parametrize("damage", [Path.unlink, cut_short])
def test_without_its_configuration_a_run_is_named_as_damaged_beside_the_others(runs: Path, damage) -> None:
    path, other = write_run(runs, steps=20, n_future=2, seed=3), write_run(runs, steps=20)
    damage(path / "config.json")
    store = read_store(runs, lenient=True)
    assert [run.id for run in store.runs] == [other.name]
    (folder,) = store.broken
    assert folder.path == path and "config.json" in folder.problem


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


def test_lenient_and_strict_listings_are_apart(runs: Path) -> None:
    path = write_run(runs, steps=20)
    for name in ("metrics.jsonl", "probes/attention.jsonl"):
        (path / name).unlink()
        (path / name).mkdir()
    run = only(runs)
    assert run.metrics.empty and run.attention.steps == () and run.read_history("attention", AttentionScores).bad
    assert len(run.problems_without_probes) == 1 and len(run.problems) == 2
    (strict,), _ = list_runs(runs)
    assert strict.problems == run.problems and list_runs(runs)[0] == [strict]
    for read in (lambda: strict.metrics, lambda: strict.columns, lambda: strict.attention):
        with pytest.raises(Damaged, match="is not a regular file"):
            read()


def test_a_file_in_the_place_of_the_folder_is_an_error_unless_lenient(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    (broken,) = read_store(tmp_path / "runs", lenient=True).broken
    with pytest.raises(RunError, match="is a file"):
        read_store(tmp_path / "runs")
    assert "is a file" in broken.problem


def test_a_damaged_folder_is_read_again_only_when_it_changes(runs: Path) -> None:
    path = write_run(runs, steps=20)
    contents = (path / "config.json").read_text()
    cut_short(path / "config.json")
    (first,), (again,) = read_store(runs).broken, read_store(runs).broken
    assert again is first
    (path / "config.json").write_text(contents)
    assert not read_store(runs).broken


def test_a_run_whose_task_is_not_installed_has_values_and_rows(runs: Path) -> None:
    path = write_run(runs, steps=20)
    values = json.loads((path / "config.json").read_text())
    values["task"]["name"] = "sorting"
    write_json(path / "config.json", values)
    change_json(path / "run.json", task="sorting", config_hash=hash_values(values))
    run = only(runs)
    assert run.values["task"]["name"] == "sorting" and len(run.metrics)
    with pytest.raises(Damaged, match="cannot be used"):
        _ = run.config
