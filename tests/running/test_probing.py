"""Probes on a stored run: results come out and stay in its folder, at the right step, for the right model."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from playground.probes.catalogue import all_probes
from playground.probes.registry import make_probes
from playground.results import Behaviour, Result
from playground.running.probing import probe_run
from playground.runs.checkpoint import save_checkpoint
from playground.runs.errors import RunError
from playground.runs.lock import run_lock
from playground.runs.probes import probe_files
from playground.runs.store import load_run
from playground.training.optim import make_optimizer
from tests.fake_runs import write_run, write_weights


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints on which no probe has run."""
    path = write_run(tmp_path, n_future=2, steps=40)
    write_weights(path, [20, 40])
    shutil.rmtree(path / "probes")
    return load_run(path)


def test_the_last_model_is_measured_and_the_result_kept(run):
    (probed,) = probe_run(run, ["behaviour"], device="cpu")
    assert (probed.run, probed.probe, probed.step) == (run.id, "behaviour", 40)
    stored = run.history("behaviour", Behaviour)
    assert stored.steps == (40,) and stored.tokens == (40 * 64 * run.task.n_ctx,)
    measure = make_probes(["behaviour"], run.task, 2)["behaviour"]
    np.testing.assert_allclose(stored.results[0].loss, measure(run.model(40)).loss, rtol=1e-4)


def test_every_step_asked_for_and_every_probe_in_their_order(run):
    found = [
        (probed.step, probed.probe) for probed in probe_run(run, ["composition", "behaviour"], [40, 20], device="cpu")
    ]
    assert found == [(40, "composition"), (40, "behaviour"), (20, "composition"), (20, "behaviour")]
    assert run.history("behaviour", Behaviour).steps == (20, 40)
    assert [path.stem for path in probe_files(run.path)] == ["behaviour", "composition"]


def test_a_second_measurement_takes_the_place_of_the_first(run):
    (first,) = probe_run(run, ["behaviour"], [20], device="cpu")
    with torch.no_grad():
        model = run.model(20)
        model.unembed.weight.zero_()
    save_checkpoint(run.path / "checkpoints", 20, model, make_optimizer(model, run.config.optim), {})
    (second,) = probe_run(run, ["behaviour"], [20], device="cpu")
    stored = run.history("behaviour", Behaviour)
    assert stored.steps == (20,) and not np.allclose(first.result.loss, second.result.loss)
    np.testing.assert_allclose(stored.results[0].loss, second.result.loss, rtol=1e-4)


def test_tokens_are_those_that_the_training_stored(run):
    """A probe measured later lies on the same axis as the curves."""
    evaluated = run.metrics[run.metrics.kind == "eval"]
    (probed,) = probe_run(run, ["composition"], [20], device="cpu")
    row = evaluated[evaluated.step == 20].iloc[0]
    assert run.history("composition", type(probed.result)).tokens == (row.tokens,)


def test_refusals(run, tmp_path):
    with pytest.raises(ValueError, match="there is no probe 'behavior'; did you mean 'behaviour'"):
        next(probe_run(run, ["behavior"]))
    with pytest.raises(RunError, match="no checkpoint at step 30; there are: 20, 40"):
        next(probe_run(run, ["composition"], [30], device="cpu"))
    with run_lock(run.path), pytest.raises(RunError, match="is being trained by another process"):
        next(probe_run(run, ["composition"], device="cpu"))
    with pytest.raises(RunError, match="has no checkpoint yet"):
        next(probe_run(load_run(write_run(tmp_path, seed=1, steps=40)), ["composition"]))
    assert probe_files(run.path) == []


def test_the_lock_is_let_go_of(run):
    list(probe_run(run, ["composition"], device="cpu"))
    with run_lock(run.path):
        pass


@pytest.mark.parametrize(
    "result", dict.fromkeys(probe.result for probe in all_probes().values()), ids=lambda result: result.__name__
)
def test_no_field_of_a_result_stands_in_the_way_of_step_and_tokens(result: type[Result]):
    assert not {"step", "tokens", "run", "probe"} & {item.name for item in dataclasses.fields(result)}
