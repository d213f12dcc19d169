"""Rows of another run, too few of them, or changed ones are named when a run is read."""

import dataclasses
import json
import shutil

import pytest

from playground.cli import main
from playground.running.runner import train
from playground.runs.store import load_run, read_store
from tests.running.test_runner import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and others whose files could stand in its place."""
    folder, short = tmp_path_factory.mktemp("trained"), tiny(steps=20)
    train(short, folder, run_id="a")
    train(dataclasses.replace(short, seed=9), folder, run_id="seed")
    train(tiny(steps=30), folder, run_id="long")
    train(dataclasses.replace(short, model=dataclasses.replace(short.model, n_future=1)), folder, run_id="n")
    return folder


def lines(change):
    def changed(path, _others):
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return changed


def of(run):
    return lambda path, others: shutil.copy(others / run / "metrics.jsonl", path)


def other_number(rows):
    row = json.loads(rows[2])
    row["seconds"] += 1.0
    return [*rows[:2], json.dumps(row) + "\n", *rows[3:]]


CASES = {
    "another seed's": (of("seed"), "has changed since the run finished"),
    "a longer run's": (of("long"), "goes to step 30, and the run has 20; is it another run's?"),
    "another n's": (of("n"), "has losses of 1 offsets, and the run predicts 2"),
    "cut short": (lines(lambda rows: rows[:3]), "lines are lost"),
    "its end cut off": (lines(lambda rows: rows[:-1]), "has changed since the run finished"),
    "empty": (lines(lambda _rows: []), "is missing or has no rows, and run.json says step 20; lines are lost"),
    "missing": (lambda path, _others: path.unlink(), "is missing or has no rows"),
    "doubled": (lines(lambda rows: rows + rows), "has changed since the run finished"),
    "reversed": (lines(lambda rows: rows[::-1]), "has changed since the run finished"),
    "one number": (lines(other_number), "has changed since the run finished"),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_that_do_not_fit_the_record_are_named(trained, tmp_path, capsys, case):
    change, message = CASES[case]
    path = shutil.copytree(trained / "a", tmp_path / "a")
    assert load_run(path).problems == read_store(tmp_path, lenient=True).runs[0].problems == ()
    change(path / "metrics.jsonl", trained)
    for problems in (load_run(path).problems, read_store(tmp_path, lenient=True).runs[0].problems):
        assert len(problems) == 1 and message in problems[0]
    assert main(["runs", "show", "a", "--runs-dir", str(tmp_path)]) == 0
    assert message.split(";")[0] in " ".join(capsys.readouterr().err.split())


def test_lines_of_probes_beyond_the_runs_end_are_left_out(trained, tmp_path):
    path = shutil.copytree(trained / "a", tmp_path / "a")
    shutil.copy(trained / "long" / "probes" / "attention.jsonl", path / "probes")
    (run,) = read_store(tmp_path, lenient=True).runs
    assert max(run.attention.steps) <= 20
    stored = load_run(path).read_history("attention", type(run.attention.results[0]))
    assert stored.bad and "and the run has 20" in stored.bad[0].problem
