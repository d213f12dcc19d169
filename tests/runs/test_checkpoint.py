"""Checkpoints: what comes back equals what was saved, and a kill at any moment leaves one to go on from."""

import os

import pytest
import torch

from playground.config import OptimConfig
from playground.model.transformer import MTPTransformer
from playground.runs import checkpoint
from playground.runs.checkpoint import RESUME, WEIGHTS, load_checkpoint, load_model, resumable, save_checkpoint
from playground.training.loss import per_head_loss
from playground.training.optim import make_optimizer
from tests.cases import make_batch, random_tokens, small_config, small_model

OPTIM = OptimConfig(lr=1e-2)
COUNTERS = {
    "generator": torch.Generator().manual_seed(3).get_state(),
    "step_tokens": torch.tensor([7, 252]),
    "seconds": torch.tensor(1 / 3, dtype=torch.float64),
    "pending": torch.zeros(0, 3),
}


def trained(steps: int = 3, seed: int = 0) -> tuple[MTPTransformer, torch.optim.Optimizer]:
    """A small model with the optimizer state of a few steps."""
    model = small_model(seed, n_future=2)
    optimizer = make_optimizer(model, OPTIM)
    step_on(model, optimizer, steps)
    return model, optimizer


def step_on(model: MTPTransformer, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for number in range(steps):
        optimizer.zero_grad()
        per_head_loss(model, make_batch(random_tokens(seed=number)), None).total.backward()
        optimizer.step()


def fresh() -> tuple[MTPTransformer, torch.optim.Optimizer]:
    model = small_model(99, n_future=2)
    return model, make_optimizer(model, OPTIM)


def states(model: MTPTransformer, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Weights and optimizer state by name."""
    found = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        found |= {f"{name}/{key}": value for key, value in optimizer.state[parameter].items()}
    return found


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        assert torch.equal(value, theirs[name]), name


def test_weights_optimizer_and_counters_come_back_to_the_last_bit(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path, 7, model, optimizer, COUNTERS)
    other, other_optimizer = fresh()
    counters = load_checkpoint(tmp_path / "7", other, other_optimizer)
    assert_equal(counters, COUNTERS)
    assert_equal(states(other, other_optimizer), states(model, optimizer))
    assert len(other_optimizer.state) == len(list(model.parameters()))


def test_training_goes_on_alike_from_a_checkpoint(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path, 3, model, optimizer, {})
    other, other_optimizer = fresh()
    load_checkpoint(tmp_path / "3", other, other_optimizer)
    step_on(model, optimizer, 2)
    step_on(other, other_optimizer, 2)
    assert_equal(states(other, other_optimizer), states(model, optimizer))


def test_an_optimizer_that_has_not_stepped_yet_comes_back_empty(tmp_path):
    model, optimizer = trained(steps=0)
    save_checkpoint(tmp_path, 0, model, optimizer, COUNTERS)
    other, other_optimizer = fresh()
    assert_equal(load_checkpoint(tmp_path / "0", other, other_optimizer), COUNTERS)
    assert not other_optimizer.state
    assert_equal(dict(other.state_dict()), dict(model.state_dict()))


def test_saving_changes_nothing(tmp_path):
    model, optimizer = trained()
    before = {name: value.clone() for name, value in states(model, optimizer).items()}
    save_checkpoint(tmp_path, 3, model, optimizer, COUNTERS)
    assert_equal(states(model, optimizer), before)
    assert model.training


@pytest.mark.parametrize("options", [{}, {"normalization": "LN", "positions": "standard", "mlp": "gelu"}], ids=str)
def test_load_model_gives_the_same_logits_in_evaluation_mode(tmp_path, options):
    model = small_model(n_future=2, **options)
    save_checkpoint(tmp_path, 3, model, make_optimizer(model, OPTIM), {})
    loaded = load_model(tmp_path / "3", small_config(n_future=2, **options))
    assert not loaded.training
    tokens = random_tokens()
    assert torch.equal(loaded(tokens, [1, 2]), model.eval()(tokens, [1, 2]))


def test_weights_stay_and_older_resume_files_go(tmp_path):
    model, optimizer = trained()
    for step in (0, 7, 14):
        assert save_checkpoint(tmp_path, step, model, optimizer, COUNTERS) == tmp_path / str(step)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == ["0/" + WEIGHTS, "14/" + RESUME, "14/" + WEIGHTS, "7/" + WEIGHTS]
    assert resumable(tmp_path) == [14]


def test_resumable_ignores_what_is_half_written(tmp_path):
    assert resumable(tmp_path / "nowhere") == []
    model, optimizer = trained(steps=0)
    save_checkpoint(tmp_path, 7, model, optimizer, {})
    half = tmp_path / ".14.tmp"
    half.mkdir()
    for name in (WEIGHTS, RESUME):
        (half / name).write_bytes(b"half")
    (tmp_path / "21").mkdir()
    (tmp_path / "21" / WEIGHTS).write_bytes(b"")
    assert resumable(tmp_path) == [7]


def test_steps_are_sorted_as_numbers(tmp_path):
    for step in (100, 20, 3):
        (tmp_path / str(step)).mkdir()
        (tmp_path / str(step) / RESUME).touch()
    assert resumable(tmp_path) == [3, 20, 100]


def kill_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End at the given one of the calls that change files, before it has happened."""
    calls = iter(range(1000))

    def dying(original):
        def call(*args, **options):
            if next(calls) == moment:
                raise KeyboardInterrupt
            return original(*args, **options)

        return call

    monkeypatch.setattr(checkpoint, "save_file", dying(checkpoint.save_file))
    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))


@pytest.mark.parametrize("again", [False, True], ids=["the next step", "the same step again"])
@pytest.mark.parametrize("moment", range(7))
def test_a_kill_at_any_moment_leaves_a_checkpoint_to_go_on_from(tmp_path, monkeypatch, moment, again):
    model, optimizer = trained()
    save_checkpoint(tmp_path, 0, model, optimizer, COUNTERS)
    save_checkpoint(tmp_path, 7, model, optimizer, COUNTERS)
    expected = {name: value.clone() for name, value in states(model, optimizer).items()}
    step = 7 if again else 14
    with monkeypatch.context() as patch:
        kill_at(moment, patch)
        try:
            save_checkpoint(tmp_path, step, model, optimizer, COUNTERS)
        except KeyboardInterrupt:
            killed = True
        else:
            killed = False
    assert killed == (moment < (5 if again else 4))
    last = resumable(tmp_path)[-1]
    assert last == (7 if killed else step)
    other, other_optimizer = fresh()
    assert_equal(load_checkpoint(tmp_path / str(last), other, other_optimizer), COUNTERS)
    assert_equal(states(other, other_optimizer), expected)
    save_checkpoint(tmp_path, step, model, optimizer, COUNTERS)
    assert resumable(tmp_path) == [step]
    assert not list(tmp_path.glob(".*"))
