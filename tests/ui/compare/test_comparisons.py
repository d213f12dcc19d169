"""The rows of the comparison table and the files one can save."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from playground.analysis.compare import compare_run
from playground.analysis.groups import group_runs
from playground.runs.store import Run, read_store
from playground.runs.writing import append_line
from playground.ui.compare.comparisons import NOT_REACHED, comparison, metrics_csv, shown_table, t50_text, table_csv
from playground.ui.shared.words import short
from tests.fake_runs import settle, write_run
from tests.ui.support import Training, change_json


def stored(folder: Path) -> list[Run]:
    return list(read_store(folder, lenient=True).runs)


def read_csv(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def test_a_row_is_what_the_command_line_says(runs: Path) -> None:
    path = write_run(runs, n_future=2)
    assert comparison(stored(runs)[0]) == compare_run(Run(path))


def test_a_row_is_computed_once_for_each_version_of_the_files(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(runs, steps=40, state="stopped")
    computed: list[str] = []

    def counting(run: Run) -> Any:
        computed.append(run.id)
        return compare_run(run)

    monkeypatch.setattr("playground.ui.compare.comparisons.compare_run", counting)
    comparison(stored(runs)[0])
    comparison(stored(runs)[0])
    assert len(computed) == 1
    append_line(
        path / "metrics.jsonl", {"kind": "eval", "step": 40, "tokens": 1000, "seconds": 1, "repeat_accuracy": 0.7}
    )
    assert comparison(stored(runs)[0]).score == 0.7
    change_json(path / "run.json", final={"repeat_accuracy": 0.8})
    assert comparison(stored(runs)[0]).score == 0.8
    assert len(computed) == 3


def test_a_run_whose_process_ends_without_writing_is_told_at_once(runs: Path, training: Training) -> None:
    training.write_run(runs, steps=40)
    run = stored(runs)[0]
    assert comparison(run).status == "running"
    training.kill()
    assert comparison(run).status == "interrupted"


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, None), ({"state": "stopped", "done": 0.2}, NOT_REACHED), ({"state": "running", "done": 0}, "-")],
)
def test_when_it_was_half_way(runs: Path, options: dict, text: str | None) -> None:
    path = write_run(runs, **options)
    assert t50_text(comparison(stored(runs)[0])) == (text or short(compare_run(Run(path)).t50_tokens))


def test_the_table_says_what_was_written(runs: Path) -> None:
    write_run(runs, n_future=1, seed=3, created=1.0)
    write_run(runs, n_future=2, seed=4, control="trunk", state="stopped", done=0.2, created=2.0)
    own = write_run(runs, seed=5, state="running", done=0, created=3.0)
    change_json(own / "config.json", preset=None)
    settle(own)
    found = stored(runs)
    table = shown_table([comparison(run) for run in found], group_runs({run.id: run.values for run in found}))
    records = [run.record for run in found]
    assert table["model"].tolist() == ["n = 1", "n = 2, trunk", "n = 1"]
    assert table["seed"].tolist() == [3, 4, 5]
    assert table["status"].tolist() == ["finished", "stopped", "training"]
    assert table["t50 (tokens)"].tolist()[1:] == [NOT_REACHED, "-"]
    assert table["preset"].tolist() == ["induction-cpu", "induction-cpu", "own settings"]
    assert table["run"].tolist() == [run.id for run in found]
    for column, name in [("step", "step"), ("of steps", "steps"), ("tokens seen", "tokens"), ("device", "device")]:
        assert table[column].tolist() == [getattr(record, name) for record in records]
    assert table["parameters"].tolist() == [record.parameters["total"] for record in records]
    assert table["next-token depth"].tolist() == [record.next_token_depth for record in records]
    assert table["score"].tolist()[0] == pytest.approx(records[0].final["repeat_accuracy"])
    assert table["score"].isna().tolist() == [False, False, True]


def test_the_table_as_csv_says_what_was_not_reached(runs: Path) -> None:
    write_run(runs, seed=0, created=1.0)
    write_run(runs, seed=1, state="stopped", done=0.2, created=2.0)
    table = read_csv(table_csv([comparison(run) for run in stored(runs)]))
    assert table["t50"].tolist() == ["reached", NOT_REACHED]
    assert table["t50_tokens"].isna().tolist() == [False, True]
    assert table["score_name"].tolist() == ["repeat_accuracy"] * 2


def test_all_measurements_as_csv_hold_every_row_of_every_run(runs: Path) -> None:
    write_run(runs, steps=60, n_future=1, seed=1, created=1.0)
    write_run(runs, steps=60, n_future=2, seed=2, created=2.0)
    found = stored(runs)
    table = read_csv(metrics_csv(found))
    assert len(table) == sum(len(run.metrics) for run in found)
    assert list(table)[:6] == ["run", "task", "preset", "n_future", "control", "seed"]
    for run in found:
        part = table[table["run"] == run.id]
        assert part["step"].tolist() == run.metrics["step"].tolist()
        assert set(part["seed"]) == {run.record.seed}
        assert part["loss_1"].dropna().tolist() == run.metrics["loss_1"].dropna().tolist()
    assert "run" not in found[0].metrics


def test_without_runs_the_measurements_are_empty() -> None:
    assert metrics_csv([]) == ""
