"""Runs that the version before run format 2 stored: they open, are probed, decoded and resumed as before, and say what they lack.

tests/data/stored_before holds four of them, and the text of two, which they expect in /data/stories.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from playground.cli import main
from playground.results import Behaviour, Composition
from playground.running.probing import probe_run
from playground.running.runner import resume
from playground.runs.errors import RunError
from playground.runs.store import Run, list_runs, load_run

BEFORE = Path(__file__).parents[1] / "data" / "stored_before"
TEXTS = {"stories-stopped": "stories", "bytes-stopped": "stories/stories.txt"}


@pytest.fixture
def runs(tmp_path):
    """The runs and, beside them, the folder `stories` with their text."""
    for path in BEFORE.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / "runs" / path.name)
    (tmp_path / "stories").mkdir()
    shutil.copy(BEFORE / "stories.txt", tmp_path / "stories")
    return tmp_path / "runs"


def opened(runs: Path, name: str) -> Run:
    text = TEXTS.get(name)
    return load_run(runs / name, text=None if text is None else str(runs.parent / text))


NAMES = sorted(path.name for path in BEFORE.iterdir() if path.is_dir())


def test_all_are_listed_and_nothing_of_them_is_changed_by_reading(runs, capsys):
    found, broken = list_runs(runs)
    assert sorted(run.id for run in found) == NAMES and not broken
    for name in NAMES:
        assert main(["runs", "show", name, "--runs-dir", str(runs)]) == 0
        said = capsys.readouterr().err
        assert f"{name}: stored by an older version, without checksums" in said
        assert ("tokenizer" in said) == (name in TEXTS)
    for path in BEFORE.rglob("*.*"):
        if path.name != "stories.txt":
            assert (runs / path.relative_to(BEFORE)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_metrics_probes_and_models_are_read(runs, name):
    run = opened(runs, name)
    assert run.record.format == 1 and len(run.metrics) and run.problems == ()
    assert run.attention.steps and run.history("behaviour", Behaviour).steps[0] == 0
    for step in run.checkpoints:
        assert run.model(step).n_future == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_measures_what_it_measured_then(runs, name):
    run = opened(runs, name)
    stored = run.history("behaviour", Behaviour)
    step = stored.steps[0]
    (probed,) = probe_run(run, ["behaviour"], [step], device="cpu")
    np.testing.assert_allclose(probed.result.loss, stored.results[0].loss, rtol=1e-3)


def test_composition_is_read_with_its_one_band_and_beside_what_is_measured_now(runs):
    run = opened(runs, "induction-finished")
    before = run.history("composition", Composition).results[0]
    assert not before.rotated and (before.band("k")[np.isfinite(before.k)] == before.null[1]).all()
    step = run.checkpoints[-1]
    (probed,) = probe_run(run, ["composition"], [step], device="cpu")
    history = run.history("composition", Composition)
    now = history.results[history.steps.index(step)]
    assert now.rotated and history.results[0].null == before.null
    np.testing.assert_allclose(now.band("k"), probed.result.band("k"), rtol=1e-4)
    assert now.random == pytest.approx(before.random)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("stopped")])
def test_a_stopped_run_goes_on_to_its_end(runs, name):
    before = opened(runs, name).metrics
    run = resume(opened(runs, name))
    assert run.record.state == "finished" and run.record.step == 20
    after = run.metrics
    assert after[after.step <= 9].loss_1.dropna().tolist() == before[before.step <= 9].loss_1.dropna().tolist()
    if name.startswith("induction"):
        whole = load_run(runs / "induction-finished").metrics
        np.testing.assert_allclose(after.loss_1.dropna(), whole.loss_1.dropna(), rtol=1e-4)
        np.testing.assert_allclose(after.test_loss_2.dropna(), whole.test_loss_2.dropna(), rtol=1e-4)
    assert (run.path / "checkpoints" / "20" / "checkpoint.json").exists()


@pytest.mark.parametrize("name", TEXTS)
def test_without_its_text_it_says_what_it_needs(runs, name, capsys):
    for command in (["resume", name], ["probe", name, "--probe", "behaviour"], ["generate", name]):
        assert main([*command, "--runs-dir", str(runs)]) == 2
        said = capsys.readouterr().err
        assert "--path" in said and "Traceback" not in said
        assert json.loads((runs / name / "run.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("name", TEXTS)
def test_another_text_is_refused_at_every_door(runs, name, capsys):
    text = runs.parent / "stories" / "stories.txt"
    text.write_text(text.read_text().replace("Anna", "Hanna"))
    place = str(runs.parent / TEXTS[name])
    for command in (["resume", name], ["probe", name, "--probe", "behaviour"], ["generate", name]):
        assert main([*command, "--path", place, "--runs-dir", str(runs)]) == 2
        assert "is not the one that the run was trained on" in capsys.readouterr().err
    with pytest.raises(RunError, match="is not the one"):
        _ = opened(runs, name).task


@pytest.mark.parametrize("name", TEXTS)
def test_a_moved_text_can_be_named(runs, name, capsys):
    place = str(runs.parent / TEXTS[name])
    assert main(["generate", name, "--path", place, "--max-new-tokens", "4", "--json", "--runs-dir", str(runs)]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == name
    assert main(["probe", name, "--probe", "composition", "--path", place, "--runs-dir", str(runs)]) == 0
    assert main(["resume", name, "--path", place, "--json", "--runs-dir", str(runs)]) == 0
