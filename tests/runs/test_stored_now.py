"""Runs of every task and every type of future head, stored on 2026-11-30: they mean the same in every later version.

tests/data/stored_2026_11 holds them: 12 steps of models of about 1,500 parameters, on one CPU thread. The bytes are those of
tests/data/stored_before/stories.txt. What they store of losses, scores and probes is what a training of today has to give.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from playground.cli import main
from playground.running.runner import resume, train
from playground.runs.store import Run, list_runs, load_run
from tests.conftest import ROOT

STORED = ROOT / "tests" / "data" / "stored_2026_11"
TEXT = ROOT / "tests" / "data" / "stored_before" / "stories.txt"
NAMES = sorted(path.name for path in STORED.iterdir())


@pytest.fixture
def runs(tmp_path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "runs"))


def text_of(name: str) -> str | None:
    return str(TEXT) if name.startswith("bytes") else None


def trained_again(run: Run, runs_dir: Path) -> Run:
    config = run.config
    if text_of(run.id):
        config = dataclasses.replace(config, task=dataclasses.replace(config.task, path=str(TEXT)))
    return train(config, runs_dir, run_id=run.id)


def same(one: Run, other: Run) -> None:
    """Losses, gradient norms and scores agree; another processor may round differently."""
    before, after = one.metrics, other.metrics
    aside = ["seconds", "tokens_per_second"]
    assert list(after.columns) == list(before.columns)
    assert after.kind.tolist() == before.kind.tolist()
    for column in before.columns.difference(["kind", *aside]):
        np.testing.assert_allclose(after[column], before[column], rtol=1e-3, atol=1e-5, err_msg=column)


def test_all_are_read_and_left_as_they_are(runs, capsys):
    found, broken = list_runs(runs)
    assert sorted(run.id for run in found) == NAMES and not broken
    for run in found:
        assert run.problems == () and run.record.step == run.checkpoints[-1] and run.attention.steps[0] == 0
    for command in (["runs", "list"], ["runs", "show", "stories-n2"]):
        assert main([*command, "--runs-dir", str(runs)]) == 0
    assert "damaged" not in capsys.readouterr().err
    for path in STORED.rglob("*.*"):
        assert (runs / path.relative_to(STORED)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("task", ["induction", "polynomial", "stories", "bytes"])
def test_next_token_and_two_token_runs_are_compared(task, runs, capsys):
    assert main(["compare", f"{task}-n1", f"{task}-n2", "--json", "--runs-dir", str(runs)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["run"]: row["n_future"] for row in rows} == {f"{task}-n1": 1, f"{task}-n2": 2}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_probed_and_decoded(name, runs, capsys):
    place = [] if text_of(name) is None else ["--path", str(TEXT)]
    probes = ["--probe", "behaviour", "gradients", "lens", "--device", "cpu"]
    assert main(["probe", name, *probes, *place, "--runs-dir", str(runs)]) == 0
    done = ["generate", name, "--max-new-tokens", "4", "--json", *place, "--runs-dir", str(runs)]
    capsys.readouterr()
    assert main(done) == 0
    assert json.loads(capsys.readouterr().out)["run"] == name


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(runs):
    run = resume(load_run(runs / "induction-stopped"))
    assert run.record.state == "finished"
    same(load_run(runs / "induction-n2"), run)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("stopped")])
def test_the_same_configuration_gives_the_same_numbers(name, tmp_path):
    run = load_run(STORED / name)
    again = trained_again(run, tmp_path)
    same(run, again)
    assert run.config.hash() == run.record.config_hash
    if text_of(name) is None:
        assert again.record.config_hash == run.record.config_hash
    np.testing.assert_allclose(again.attention.results[-1].ahead, run.attention.results[-1].ahead, rtol=0.01, atol=1e-4)
