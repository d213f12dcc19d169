"""Which two runs stand side by side unless chosen otherwise, and what they are called in a list."""

from pathlib import Path

import pytest

from playground.analysis.groups import group_runs
from playground.runs.store import read_store
from playground.ui.shared.two_runs import default_pair, run_name
from tests.fake_runs import write_run


@pytest.mark.parametrize(
    ("written", "left", "right"),
    [
        ([(1, 0), (2, 0)], 0, 1),
        ([(2, 0), (1, 0)], 1, 0),
        ([(1, 0), (1, 1), (2, 0)], 0, 2),
        ([(1, 0), (2, 0), (1, 1), (2, 1)], 2, 3),
        ([(1, 0), (2, 1)], 0, 1),
        ([(1, 0), (1, 1)], 1, 0),
        ([(2, 0), (2, 1)], 1, 0),
        ([(2, 0)], 0, 0),
    ],
)
def test_the_newest_pair_that_differs_in_n_alone(
    runs: Path, written: list[tuple[int, int]], left: int, right: int
) -> None:
    paths = [
        write_run(runs, steps=20, n_future=n_future, seed=seed, created=float(created))
        for created, (n_future, seed) in enumerate(written)
    ]
    found = default_pair(read_store(runs, lenient=True).runs[::-1])
    assert [run.id for run in found] == [paths[left].name, paths[right].name]


def test_a_run_is_named_by_its_group_its_seed_and_its_state(runs: Path) -> None:
    path = write_run(runs, steps=100, n_future=2, seed=1)
    (run,) = read_store(runs, lenient=True).runs
    group = group_runs({run.id: run.values})[run.id]
    assert run_name(run, group) == f"n = 2, layers, seed 1 (finished, step 100): {path.name}"
