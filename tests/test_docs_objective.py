"""The objective of docs/guides/add-an-objective.md, as one file in a folder of its own: trained, resumed, drawn and refused."""

import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import playground.training.objectives as package
from playground.analysis.curves import loss_curves
from playground.analysis.groups import group_runs
from playground.cli import main
from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.running.existing import existing_runs
from playground.running.probing import probe_run
from playground.running.runner import resume, train
from playground.runs.store import Run, list_runs
from playground.training.loop import start_state
from playground.training.memory import training_bytes
from playground.training.objectives.registry import make_objective
from playground.training.step import Learner, PlainStep
from tasks import make_task
from tasks.base import seeded_generator
from tasks.targets import IGNORED, future_targets
from tests.cases import make_batch, random_tokens, small_model
from tests.running.test_runner import same_numbers, tiny
from tests.ui.support import annotations, array, assert_well, figures, open_app, open_page, widget

MODULE = f"{package.__name__}.next_set"


@pytest.fixture(autouse=True)
def next_set(repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file of the page lies in a folder that the package is extended by."""
    page = (repository_root / "docs" / "guides" / "add-an-objective.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    folder = tmp_path / "objectives"
    folder.mkdir()
    (folder / "next_set.py").write_text(code)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    importlib.invalidate_caches()
    yield
    sys.modules.pop(MODULE, None)
    vars(package).pop("next_set", None)


def config(*settings: str, **changes: Any) -> RunConfig:
    return tiny(objective="next_set", objective_settings=settings, **changes)


def test_the_losses_are_those_of_a_slow_loop():
    model, batch = small_model(n_future=2), make_batch(random_tokens())
    log_p = model(batch.tokens, (1, 2)).detach().double()
    mean = log_p.mean(dim=2).log_softmax(dim=-1)
    sums, counts = [0.0, 0.0], [0, 0]
    for row, position in np.ndindex(*batch.tokens.shape):
        for offset in (1, 2):
            target = int(future_targets(batch, offset)[row, position])
            if target == IGNORED:
                continue
            sums[1] -= float(mean[row, position, target])
            counts[1] += 1
            if offset == 1:
                sums[0] -= float(log_p[row, position, 0].log_softmax(dim=-1)[target])
                counts[0] += 1
    found = make_objective("next_set").losses(model, batch)[0].tolist()
    assert found == pytest.approx([sums[0] / counts[0], sums[1] / counts[1]], rel=1e-5)


def stepped(seeds: tuple[int, ...], **changes: Any) -> tuple[torch.Tensor, list[MTPTransformer]]:
    """Losses `[replica, loss]` of one step of models side by side, and the models after it."""
    asked = config("weight=0.5", **changes).resolve(d_vocab=12, n_ctx=16)
    states = [
        start_state(MTPTransformer(asked.model, seeded_generator(seed)), asked, seeded_generator(seed))
        for seed in seeds
    ]
    step = PlainStep([Learner(model=one.model, optimizer=one.optimizer, optim=asked.optim) for one in states], asked)
    batches = [make_batch(random_tokens(rows=4, length=16, d_vocab=12, seed=seed)) for seed in seeds]
    result = step(batches, [1e-3] * len(seeds))
    assert result.names == ("loss_1", "loss_set")
    return result.losses, [one.model for one in states]


def test_it_trains_side_by_side_in_parts_and_with_recomputation_as_alone():
    together, models = stepped((0, 1))
    for place in (0, 1):
        for changes in ({}, {"accumulate": 2}, {"recompute": True}):
            alone, (model,) = stepped((place,), **changes)
            torch.testing.assert_close(together[place], alone[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(models[place].W_E, model.W_E, rtol=1e-3, atol=1e-5)


def test_it_trains_from_the_command_line_and_is_drawn_on_the_pages(tmp_path, monkeypatch, capsys, no_shape_checks):
    folder = tmp_path / "runs"
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(folder))
    words = ["train", "--task", "induction", "--n-layers", "3", "--d-model", "16", "--n-heads", "2", "--n-future", "2"]
    words += ["--steps", "4", "--eval-every", "2", "--log-every", "1", "--batch-size", "4", "--device", "cpu"]
    words += ["--n-ctx", "64", "--probe-points", "0", "--objective", "next_set"]
    assert main([*words, "--objective-settings", "weight=0.50"]) == 0
    ((run,), _) = list_runs(folder)
    assert run.id.startswith("induction-next_set-n2") and run.config.train.objective_settings == ("weight=0.5",)
    losses = run.metrics.query("kind == 'train'")[["loss_1", "loss_set"]].to_numpy()
    tests = run.metrics.query("kind == 'eval'")[["test_loss_1", "test_loss_2", "test_loss_set"]].to_numpy()
    assert losses.shape == (4, 2) and tests.shape == (3, 3)
    assert np.isfinite(losses).all() and np.isfinite(tests).all()
    assert main([*words, "--objective-settings", "weight=0.5"]) == 0
    assert "is this training already" in capsys.readouterr().err

    app = open_app()
    app.session_state["watched"] = [run.id]
    app.run()
    assert_well(app)
    live = figures(app)["live-loss"]
    assert annotations(live).splitlines() == ["offset 1 (next token)", "set"]
    np.testing.assert_allclose(array(live["data"][-1]["y"]), losses[:, 1])
    assert widget(app, "objective-induction-cpu").options == ["n_token", "next_set"]
    app = open_page("compare")
    assert annotations(figures(app)["induction-loss-eval"]).splitlines() == ["offset 1 (next token)", "offset 2", "set"]
    assert existing_runs([run.config], folder) == {0: run.id}


def test_it_is_stopped_and_resumed_as_if_it_had_gone_on(tmp_path):
    """The checkpoint holds the losses since the last row."""
    whole = train(config(steps=12, log_every=5, eval_every=6, checkpoint_every=100), tmp_path, run_id="whole")
    asked = iter(range(100))
    part = train(whole.config, tmp_path, run_id="part", should_stop=lambda: "enough" if next(asked) == 7 else "")
    assert part.record.status == "stopped"
    same_numbers(whole.path, resume(Run(part.path)).path)
    assert {"loss_1", "loss_set", "test_loss_set"} <= set(whole.metrics)


def test_a_group_of_its_own_is_labelled_and_its_curves_are_named(tmp_path):
    run = train(config(steps=4, eval_every=2, log_every=2), tmp_path)
    groups = group_runs({run.id: run.config.to_dict(), "other": tiny(steps=4).to_dict()})
    assert groups[run.id].label.startswith("n = 2, next_set") and groups["other"].label.startswith("n = 2, ")
    assert groups[run.id] != groups["other"]
    for kind, panels in (
        ("train", ["offset 1 (next token)", "set"]),
        ("eval", ["offset 1 (next token)", "offset 2", "set"]),
    ):
        assert [curve.panel for curve in loss_curves(run.record, run.metrics, groups[run.id], kind=kind)] == panels
    with pytest.raises(ValueError, match="probe 'agreement' does not suit a model trained with objective 'next_set'"):
        next(probe_run(run, ["agreement"]))


def test_help_lists_it_and_what_it_cannot_do_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "next_set The next token, and the set of the next n tokens in any order. Settings: weight=1.0" in " ".join(
        capsys.readouterr().out.split()
    )
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path / "runs"))
    words = ["train", "--preset", "induction-cpu", "--n-future", "2", "--objective", "next_set"]
    for more, said in (
        (["--offset-weights", "1", "0.5"], "offset_weights weight one loss of each offset"),
        (["--objective-settings", "weight=0"], "objective next_set.weight is 0; write a number above 0, such as 1.0"),
        (["--objective-settings", "wait=1"], "objective next_set has no field 'wait'"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["train", "--preset", "induction-cpu", "--objective", "next"]) == 2
    assert "there is no objective 'next'" in capsys.readouterr().err
    assert not list_runs(tmp_path / "runs")[0]
    run = train(config(steps=2), tmp_path / "runs")
    assert main(["generate", run.id, "--max-new-tokens", "2"]) == 2
    assert "does not suit a model trained with objective 'next_set'" in capsys.readouterr().err
    assert main(["generate", run.id, "--max-new-tokens", "2", "--plain", "--json"]) == 0


def test_without_a_second_form_all_heads_are_in_memory():
    plain = config()
    plain = dataclasses.replace(plain, model=dataclasses.replace(plain.model, n_layers=6, n_future=4))
    task = make_task(plain.task)
    by_head = dataclasses.replace(
        plain, train=dataclasses.replace(plain.train, objective="n_token", objective_settings=())
    )
    assert training_bytes(plain, task, "cpu") > training_bytes(by_head, task, "cpu")
