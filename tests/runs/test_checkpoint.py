"""Checkpoints: what comes back equals what was saved, and a kill at any moment leaves one to go on from."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from playground.config import OptimConfig
from playground.model.transformer import MTPTransformer
from playground.runs import checkpoint
from playground.runs.checkpoint import MANIFEST, load_checkpoint, load_model, save_checkpoint, tidy
from playground.runs.errors import Absent, Damaged
from playground.runs.steps import RESUME, WEIGHTS, resumable
from playground.training.objectives.n_token import per_head_loss
from playground.training.optim import make_optimizer
from tests.cases import make_batch, random_tokens, small_config, small_model

OPTIM = OptimConfig(lr=1e-2)


def counters(step: int) -> dict[str, torch.Tensor]:
    return {
        "generator": torch.Generator().manual_seed(3).get_state(),
        "step_tokens": torch.tensor([step, 36 * step]),
        "seconds": torch.tensor(1 / 3, dtype=torch.float64),
        "pending": torch.zeros(0, 3),
    }


COUNTERS = counters(7)


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
    save_checkpoint(tmp_path, 0, model, optimizer, counters(0))
    other, other_optimizer = fresh()
    assert_equal(load_checkpoint(tmp_path / "0", other, other_optimizer), counters(0))
    assert not other_optimizer.state
    assert_equal(dict(other.state_dict()), dict(model.state_dict()))


def test_saving_changes_nothing(tmp_path):
    model, optimizer = trained()
    before = {name: value.clone() for name, value in states(model, optimizer).items()}
    save_checkpoint(tmp_path, 3, model, optimizer, counters(3))
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
        assert save_checkpoint(tmp_path, step, model, optimizer, counters(step)) == tmp_path / str(step)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == sorted(
        [
            "0/" + MANIFEST,
            "0/" + WEIGHTS,
            *(f"{step}/{name}" for step in (7, 14) for name in (MANIFEST, RESUME, WEIGHTS)),
        ]
    )
    assert resumable(tmp_path) == [7, 14]


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
    for name in ("replace", "fsync", "mkdir"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("again", [False, True], ids=["the next step", "the same step again"])
@pytest.mark.parametrize("moment", range(12))
def test_a_kill_at_any_moment_leaves_a_checkpoint_to_go_on_from(tmp_path, monkeypatch, moment, again):
    model, optimizer = trained()
    save_checkpoint(tmp_path, 0, model, optimizer, counters(0))
    save_checkpoint(tmp_path, 7, model, optimizer, COUNTERS)
    expected = {name: value.clone() for name, value in states(model, optimizer).items()}
    step = 7 if again else 14
    with monkeypatch.context() as patch:
        kill_at(moment, patch)
        try:
            save_checkpoint(tmp_path, step, model, optimizer, counters(step))
        except KeyboardInterrupt:
            killed = True
        else:
            killed = False
    last = resumable(tmp_path)[-1]
    assert last in (7, step) and (killed or last == step)
    other, other_optimizer = fresh()
    assert_equal(load_checkpoint(tmp_path / str(last), other, other_optimizer), counters(last))
    assert_equal(states(other, other_optimizer), expected)
    save_checkpoint(tmp_path, step, model, optimizer, counters(step))
    assert resumable(tmp_path)[-1] == step
    assert not list(tmp_path.glob(".*"))


# --- what is checked when a checkpoint is opened ------------------------------------------------------------------------


def stored(folder: Path, step: int = 7, config_hash: str = "abc") -> Path:
    """A checkpoint of a few steps."""
    return save_checkpoint(folder, step, *trained(), counters(step), config_hash)


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file; the checkpoint then has no manifest, as those of format 1."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    (path.parent / MANIFEST).unlink()


def load_both(folder: Path, config_hash: str = "abc") -> None:
    load_model(folder, small_config(n_future=2), config_hash)
    load_checkpoint(folder, *fresh(), config_hash)


def test_a_checkpoint_copied_under_the_name_of_another_step_is_not_believed(tmp_path):
    shutil.copytree(stored(tmp_path), tmp_path / "14")
    for load in (
        lambda: load_model(tmp_path / "14", small_config(n_future=2)),
        lambda: load_checkpoint(tmp_path / "14", *fresh()),
    ):
        with pytest.raises(Damaged, match="is of step 7: it was copied under another step's name"):
            load()
    (tmp_path / "14" / MANIFEST).unlink()
    with pytest.raises(Damaged, match="is of step 7, but its folder is 14"):
        load_checkpoint(tmp_path / "14", *fresh())


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    load_both(stored(tmp_path))
    with pytest.raises(Damaged, match=r"belongs to another configuration \(abc, not def\)"):
        load_both(tmp_path / "7", "def")


@pytest.mark.parametrize("name", [WEIGHTS, RESUME])
@pytest.mark.parametrize("place", [0, 9, 200, -1])
def test_one_changed_byte_is_noticed(tmp_path, name, place):
    path = stored(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"{name} is damaged: its SHA-256"):
        load_both(tmp_path / "7")


@pytest.mark.parametrize("name", [WEIGHTS, RESUME])
@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_cut_short_is_noticed_with_and_without_checksums(tmp_path, name, length):
    path = stored(tmp_path) / name
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Damaged, match=f"{name} is damaged: its size differs"):
        load_both(tmp_path / "7")
    (tmp_path / "7" / MANIFEST).unlink()
    with pytest.raises(Damaged, match=f"{name} is damaged"):
        load_both(tmp_path / "7")


WEIGHT_CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "NaN": (lambda t: t["unembed.weight"].fill_(torch.nan), "unembed.weight holds values that are not finite"),
    "another type": (
        lambda t: t.update({"unembed.weight": t["unembed.weight"].half()}),
        "is float16 .* instead of float32",
    ),
    "another shape": (lambda t: t.update({"unembed.weight": t["unembed.weight"][:1].clone()}), "instead of"),
    "one missing": (lambda t: t.pop("unembed.weight"), "it has no tensor unembed.weight"),
    "one more": (lambda t: t.update(more=torch.zeros(1)), "it has an unknown tensor more"),
}


@pytest.mark.parametrize("change", WEIGHT_CHANGES)
def test_weights_that_are_not_those_of_the_model_are_refused_without_checksums_too(tmp_path, change):
    how, message = WEIGHT_CHANGES[change]
    rewritten(stored(tmp_path) / WEIGHTS, how)
    for load in (
        lambda: load_model(tmp_path / "7", small_config(n_future=2)),
        lambda: load_checkpoint(tmp_path / "7", *fresh()),
    ):
        with pytest.raises(Damaged, match=message):
            load()


OPTIMIZER_CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "no optimizer": (lambda t: [t.pop(key) for key in list(t) if key.startswith("optimizer")], "no optimizer state of"),
    "one state missing": (
        lambda t: [t.pop(key) for key in list(t) if "unembed.weight" in key],
        "no optimizer state of unembed.weight",
    ),
    "half a state": (lambda t: t.pop("optimizer/unembed.weight/exp_avg"), "parts of the optimizer's state are missing"),
    "another parameter": (lambda t: t.update({"optimizer/odd/step": torch.ones(())}), "fits no parameter"),
    "NaN": (lambda t: t["optimizer/unembed.weight/exp_avg"].fill_(torch.nan), "not finite"),
}


@pytest.mark.parametrize("change", OPTIMIZER_CHANGES)
def test_a_missing_optimizer_is_never_replaced_in_silence(tmp_path, change):
    how, message = OPTIMIZER_CHANGES[change]
    rewritten(stored(tmp_path) / RESUME, how)
    model, optimizer = fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(Damaged, match=message):
        load_checkpoint(tmp_path / "7", model, optimizer)
    assert_equal(dict(model.state_dict()), before)
    assert not optimizer.state


def test_a_missing_file_is_another_sentence_than_a_damaged_one(tmp_path):
    for name in (WEIGHTS, RESUME):
        (stored(tmp_path) / name).unlink()
        with pytest.raises(Absent, match=f"{name} is missing"):
            load_both(tmp_path / "7")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"step": 7, "config_hash": "abc", "files": {"weights.safetensors": 3}}', "\xff"]
)
def test_a_damaged_manifest_is_no_missing_one(tmp_path, text):
    (stored(tmp_path) / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged, match=MANIFEST):
        load_both(tmp_path / "7")


def test_files_have_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o022)
    try:
        folder = stored(tmp_path)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        (WEIGHTS, RESUME, MANIFEST), 0o644
    )


def test_a_full_disk_is_an_operating_system_error_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    stored(tmp_path)

    def full(*_args: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        stored(tmp_path, 14)
    assert raised.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    load_both(tmp_path / "7")


def test_what_a_kill_has_left_is_tidied_up(tmp_path):
    stored(tmp_path)
    (tmp_path / "7").rename(tmp_path / ".7.old")
    (tmp_path / ".14.tmp").mkdir()
    stored(tmp_path, 21)
    shutil.copytree(tmp_path / "21", tmp_path / ".21.old")
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["21", "7"]
    load_both(tmp_path / "7")
