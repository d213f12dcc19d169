"""What pages compute of a run: once for each state of its files, and no longer kept than they are."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from playground.runs.store import Run, read_store
from playground.runs.writing import append_line
from playground.ui.shared import remembered as module
from playground.ui.shared.remembered import remembered
from tests.fake_runs import write_run
from tests.ui.support import change_json


class Counting:
    """A computation that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, run: Run, power: int = 1) -> list[float]:
        self.calls.append((run.id, power))
        return [len(run.columns["step"]) ** power]


def only(folder: Path) -> Run:
    (run,) = read_store(folder, lenient=True).runs
    return run


@pytest.fixture
def path(runs: Path) -> Path:
    return write_run(runs, steps=20, state="stopped")


def test_a_value_is_computed_once_for_each_run_and_other_arguments(runs: Path, path: Path) -> None:
    count = Counting()
    get = remembered(count)
    first = get(only(runs), 1)
    assert (
        get(only(runs), 1) is first
        and get(only(runs), 2) is not first
        and get(only(runs), power=2) == get(only(runs), 2)
    )
    assert count.calls == [(path.name, 1), (path.name, 2), (path.name, 2)]


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", "config.json"])
def test_a_changed_file_makes_it_compute_again(runs: Path, path: Path, name: str) -> None:
    count = Counting()
    get = remembered(count)
    get(only(runs))
    if name == "metrics.jsonl":
        append_line(path / name, {"kind": "train", "step": 99, "tokens": 1, "seconds": 1.0})
    elif name == "run.json":
        change_json(path / name, step=3)
    else:
        (path / name).write_text((path / name).read_text() + "\n")
    before = len(only(runs).columns["step"])
    assert get(only(runs)) == [before] and len(count.calls) == 2


def test_what_is_computed_of_a_run_goes_with_the_state_of_its_files(runs: Path, path: Path) -> None:
    get = remembered(lambda run: np.zeros(3))
    value = weakref.ref(get(only(runs)))
    assert value() is not None
    change_json(path / "run.json", step=3)
    read_store(runs, lenient=True)
    gc.collect()
    assert value() is None


def test_a_removed_run_is_forgotten(runs: Path, path: Path) -> None:
    run = weakref.ref(only(runs))
    (path / "run.json").unlink()
    read_store(runs, lenient=True)
    gc.collect()
    assert run() is None


def test_for_one_run_only_the_newest_values_are_kept(runs: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    count = Counting()
    get = remembered(count)
    for power in (1, 2, 3, 3, 2, 1):
        get(only(runs), power)
    assert [power for _, power in count.calls] == [1, 2, 3, 1]
