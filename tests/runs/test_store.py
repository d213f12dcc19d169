"""Reading stored runs: everything a run gives, finding one by name, folders that cannot be read."""

import json

import pandas as pd
import pytest
import torch

from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.running.presets import make_config
from playground.runs.checkpoint import save_checkpoint
from playground.runs.config import read_config
from playground.runs.errors import Damaged, RunError
from playground.runs.store import find_run, list_runs, load_run, read_record
from playground.runs.writing import write_json
from playground.training.optim import make_optimizer
from tasks.induction import Induction
from tests.fake_runs import write_run, write_weights


def renamed(path, name: str):
    """The same run under another id."""
    values = json.loads((path / "run.json").read_text()) | {"run": name}
    (path / "run.json").write_text(json.dumps(values))
    return path.rename(path.with_name(name))


@pytest.fixture
def runs_dir(tmp_path):
    """Three runs, oldest first: alpha-1, alpha-2, beta."""
    for number, name in enumerate(("alpha-1", "alpha-2", "beta")):
        renamed(write_run(tmp_path, seed=number, steps=40, created=1000.0 + number), name)
    return tmp_path


# --- one run --------------------------------------------------------------------------------------------------------


def test_a_run_gives_configuration_task_metrics_and_attention(tmp_path):
    path = write_run(tmp_path, n_future=2, seed=1, steps=40)
    run = load_run(path)
    assert run.config == make_config("induction-cpu", n_future=2, seed=1, steps=40)
    assert isinstance(run.task, Induction) and run.task.n_ctx == run.config.task.n_ctx
    assert isinstance(run.metrics, pd.DataFrame)
    assert {"kind", "step", "tokens", "seconds", "loss_1", "loss_2", "test_loss_1", "test_loss_2"} <= set(run.metrics)
    evaluated = run.metrics[run.metrics.kind == "eval"]
    assert evaluated.step.tolist() == [0, 20, 40]
    assert run.attention.steps == (0, 20, 40)
    assert list(run.attention.tokens) == evaluated.tokens.tolist()
    assert run.attention.results[-1].layers == ("blocks.0", "future_heads.0", "future_heads.1")
    assert run.attention.results[-1].prefix_matching.shape == (3, 4)
    assert run.id == path.name and "step 40 of 40" in repr(run)


def test_a_path_may_be_text(tmp_path):
    path = write_run(tmp_path, steps=40)
    assert load_run(str(path)).id == path.name


def test_metrics_and_attention_grow_with_the_files(tmp_path):
    path = write_run(tmp_path, steps=80, state="stopped", done=0.5)
    run = load_run(path)
    before = len(run.metrics), len(run.attention.steps)
    for name in ("metrics.jsonl", "probes/attention.jsonl"):
        lines = (path / name).read_text().splitlines(keepends=True)
        later = json.dumps(json.loads(lines[-1]) | {"step": 60})
        (path / name).write_text("".join([*lines, later + "\n"]))
    assert (len(run.metrics), len(run.attention.steps)) == (before[0] + 1, before[1] + 1)


def test_a_run_without_rows_has_an_empty_frame_and_no_attention(tmp_path):
    run = load_run(write_run(tmp_path, state="running", done=0.0))
    assert run.metrics.empty and {"kind", "step", "tokens", "seconds"} <= set(run.metrics)
    assert run.attention.steps == run.attention.results == ()


def test_models_at_stored_steps(tmp_path):
    path = write_run(tmp_path, n_future=2, steps=40)
    write_weights(path, [0])
    run = load_run(path)
    later = run.model()
    torch.nn.init.constant_(later.unembed.weight, 0.5)
    save_checkpoint(path / "checkpoints", 20, later, make_optimizer(later, run.config.optim), {})
    assert run.checkpoints == [0, 20]
    for step, is_later in ((None, True), (20, True), (0, False)):
        model = run.model(step)
        assert isinstance(model, MTPTransformer) and not model.training and model.n_future == 2
        assert bool((model.unembed.weight == 0.5).all()) == is_later


def test_a_missing_step_is_refused_with_those_there_are(tmp_path):
    path = write_run(tmp_path, steps=40)
    with pytest.raises(RunError, match=f"run {path.name} has no checkpoint yet"):
        load_run(path).model()
    write_weights(path, [0, 20, 100])
    (path / "checkpoints" / ".40.tmp").mkdir()
    run = load_run(path)
    assert run.checkpoints == [0, 20, 100]
    for step in (7, -1, 40):
        with pytest.raises(RunError, match=rf"no checkpoint at step {step}; there are: 0, 20, 100"):
            run.model(step)


# --- files that cannot be read ---------------------------------------------------------------------------------------

BROKEN = {
    "empty": "",
    "cut": '{"run": "a", "sta',
    "list": "[]",
    "number": "3",
    "null": "null",
    "text": '"run"',
    "incomplete": '{"run": "a"}',
    "scores": '{"run": "a", "scores": 3}',
    "wrong scores": '{"run": "a", "scores": [1]}',
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_a_sentence_with_its_path(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=r"run\.json is damaged: ."):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *(value for key, value in BROKEN.items() if "scores" not in key),
        '{"task": {"name": "induction"}, "model": []}',
        '{"task": {"name": "induction"}, "model": {"d_modle": 3}}',
        '{"task": {"name": "indcution"}}',
    ],
)
def test_a_broken_configuration_is_a_sentence_with_its_path(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=r"config\.json (is damaged|cannot be used): ."):
        read_config(tmp_path)


def test_a_mistyped_configuration_names_the_nearest_field(tmp_path):
    write_json(tmp_path / "config.json", {"task": {"name": "induction"}, "model": {"d_modle": 3}})
    with pytest.raises(RunError, match="model has no field 'd_modle'; did you mean 'd_model'"):
        read_config(tmp_path)


def test_missing_files_say_so(tmp_path):
    with pytest.raises(RunError, match=r"there is no run in .*nowhere: run\.json is missing"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"config\.json is missing"):
        read_config(tmp_path)


def test_a_configuration_survives_its_file(tmp_path):
    config = make_config("polynomial-cpu", n_future=3, control="trunk", seed=4)
    write_json(tmp_path / "config.json", config.to_dict())
    assert read_config(tmp_path) == config
    assert isinstance(read_config(tmp_path), RunConfig)


# --- many runs ------------------------------------------------------------------------------------------------------


def test_runs_are_listed_oldest_first_and_broken_folders_apart(runs_dir):
    (runs_dir / "empty").mkdir()
    (runs_dir / "cut").mkdir()
    (runs_dir / "cut" / "run.json").write_text('{"run":')
    (runs_dir / "list").mkdir()
    (runs_dir / "list" / "run.json").write_text("[]")
    (runs_dir / ".jobs").mkdir()
    (runs_dir / "notes.txt").write_text("not a run")
    write_json(runs_dir / "alpha-1" / "run.json", read_record(runs_dir / "alpha-1").to_dict() | {"created": 5000.0})
    runs, broken = list_runs(runs_dir)
    assert [run.id for run in runs] == ["alpha-2", "beta", "alpha-1"]
    assert sorted(folder.path.name for folder in broken) == ["cut", "empty", "list"]
    assert all(str(folder.path) in folder.problem for folder in broken)


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path):
    assert list_runs(tmp_path / "nowhere") == ([], [])


def test_listing_leaves_metrics_unread(runs_dir):
    for path in runs_dir.iterdir():
        (path / "metrics.jsonl").unlink()
    runs, broken = list_runs(str(runs_dir))
    assert len(runs) == 3 and not broken


CHANGES = {"optim": {"lr": 0.5}, "train": {"batch_size": 8}, "seed": 7, "preset": "bytes-cpu", "model": {"n_heads": 2}}


@pytest.mark.parametrize("part", CHANGES)
def test_a_configuration_that_was_changed_is_not_that_of_the_run(runs_dir, part):
    path = runs_dir / "beta" / "config.json"
    values = json.loads(path.read_text())
    values[part] = values[part] | CHANGES[part] if isinstance(values[part], dict) else CHANGES[part]
    write_json(path, values)
    with pytest.raises(Damaged, match="is not the configuration that this run was trained with"):
        _ = load_run(runs_dir / "beta").config
    assert [folder.path.name for folder in list_runs(runs_dir)[1]] == ["beta"]


@pytest.mark.parametrize(
    ("name", "found"), [("beta", "beta"), ("b", "beta"), ("alpha-2", "alpha-2"), ("alpha-1", "alpha-1")]
)
def test_a_run_is_found_by_id_and_unique_beginning(runs_dir, name, found):
    assert find_run(name, runs_dir).id == found


def test_an_id_that_is_the_beginning_of_another_is_found(runs_dir):
    renamed(write_run(runs_dir, seed=9, steps=40), "alpha")
    assert find_run("alpha", runs_dir).id == "alpha"


def test_a_run_is_found_by_the_path_of_its_folder(runs_dir, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    assert find_run(str(runs_dir / "beta"), elsewhere).id == "beta"
    monkeypatch.chdir(runs_dir)
    assert find_run("beta", elsewhere).id == "beta"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alpha", "'alpha' is the beginning of 2 runs: alpha-1, alpha-2"),
        ("bata", "there is no run 'bata' in .*; did you mean 'beta'?"),
        ("zzz", "there is no run 'zzz' in .*; there are: alpha-1, alpha-2, beta"),
        ("", "a run's name is empty"),
        ("a\0b", "holds a NUL character"),
        (".", r"there is no run '\.'"),
    ],
)
def test_other_names_are_refused_with_a_way_out(runs_dir, name, message):
    (runs_dir / ".jobs").mkdir()
    with pytest.raises(RunError, match=message) as refused:
        find_run(name, runs_dir)
    assert ".jobs" not in str(refused.value)


@pytest.mark.parametrize("name", ["anything"])
def test_one_run_alone_is_not_found_by_no_name(tmp_path, name):
    write_run(tmp_path, steps=40)
    with pytest.raises(RunError, match=f"there is no run '{name}'"):
        find_run(name, tmp_path)


def test_a_folder_without_runs_says_so(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="which holds no runs"):
            find_run("beta", folder)


def test_a_model_needs_its_weights_and_configuration_alone(tmp_path):
    path = write_run(tmp_path, steps=40)
    write_weights(path, [0])
    (path / "metrics.jsonl").unlink()
    logits = load_run(path).model()(torch.zeros(1, 8, dtype=torch.long), [1])
    assert logits.shape == (1, 8, 1, 64)
