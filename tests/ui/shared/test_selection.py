"""Which runs a page shows, and which of them count for a mean. The widgets are tested on the pages."""

from pathlib import Path
from typing import Any

import pytest

from playground.analysis.groups import counted_runs, group_runs
from playground.runs.store import Run, read_store
from playground.ui.shared.selection import Filters, preset_name
from tests.fake_runs import settle, write_run
from tests.ui.support import change_json


def stored(folder: Path) -> list[Run]:
    return list(read_store(folder, lenient=True).runs)


@pytest.fixture
def mixed(runs: Path) -> list[Run]:
    """Runs that differ in everything one can filter by; the seed says which is which."""
    write_run(runs, steps=20, n_future=1, seed=0)
    write_run(runs, steps=20, n_future=2, seed=1, state="stopped")
    write_run(runs, steps=20, n_future=2, seed=2, control="trunk", state="failed")
    write_run(runs, "induction-gpu", steps=20, n_future=4, seed=3, control="trunk", done=0)
    own = write_run(runs, steps=20, n_future=1, seed=4, control="trunk", state="interrupted")
    change_json(own / "config.json", preset=None)
    settle(own)
    return stored(runs)


@pytest.mark.parametrize(
    ("filters", "seeds"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"n_futures": [2]}, {1, 2}),
        ({"n_futures": [1, 4]}, {0, 3, 4}),
        ({"controls": ["layers"]}, {0, 1, 4}),
        ({"controls": ["trunk"]}, {0, 2, 3, 4}),
        ({"controls": ["layers", "trunk"]}, {0, 1, 2, 3, 4}),
        ({"presets": ["induction-gpu"]}, {3}),
        ({"presets": ["own settings"]}, {4}),
        ({"states": ["stopped", "failed"]}, {1, 2}),
        ({"states": ["interrupted"]}, {4}),
        ({"n_futures": [2], "controls": ["trunk"]}, {2}),
        ({"n_futures": [2], "states": ["finished"]}, set()),
    ],
)
def test_filters_keep_what_passes_all_of_them(mixed: list[Run], filters: dict[str, Any], seeds: set[int]) -> None:
    assert {run.record.seed for run in Filters(**filters).keep(mixed)} == seeds


def test_what_a_run_was_derived_from(mixed: list[Run]) -> None:
    assert {preset_name(run) for run in mixed} == {"induction-cpu", "induction-gpu", "own settings"}


def counted(runs: list[Run]) -> list[int]:
    """Places, oldest first, of the runs that count."""
    found = counted_runs([run.record for run in runs], group_runs({run.id: run.values for run in runs}))
    return [place for place, run in enumerate(runs) if run.id in found]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([], []),
        ([(0, "finished"), (1, "finished")], [0, 1]),
        ([(0, "finished"), (0, "finished")], [1]),
        ([(0, "finished"), (0, "running")], [1]),
        ([(0, "finished"), (0, "stopped")], [0]),
        ([(0, "finished"), (1, "failed")], [0]),
        ([(0, "stopped"), (1, "interrupted")], [0, 1]),
        ([(0, "stopped"), (0, "failed")], [1]),
    ],
)
def test_one_run_a_seed_counts_the_newest_that_has_not_ended_early(
    runs: Path, written: list[tuple[int, str]], expected: list[int]
) -> None:
    for number, (seed, state) in enumerate(written):
        write_run(runs, steps=20, seed=seed, state=state, created=float(number))
    assert counted(stored(runs)) == expected


def test_groups_count_apart(runs: Path) -> None:
    write_run(runs, steps=20, n_future=1, seed=0, created=1.0)
    write_run(runs, steps=20, n_future=2, seed=0, created=2.0, state="stopped")
    write_run(runs, steps=20, n_future=1, seed=0, created=3.0, control="trunk")
    assert counted(stored(runs)) == [1, 2]
