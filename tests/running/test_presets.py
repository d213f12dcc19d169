"""Presets: valid, buildable, trainable, and at the sizes their names promise."""

import dataclasses

import pytest
import torch

from playground.config import SIZES, RunConfig
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.running.presets import PRESETS, find_preset, make_config
from playground.training.objectives.n_token import n_token_losses
from tasks.base import Task
from tasks.registry import make_task, task_names

TINY = {"n_layers": 3, "n_heads": 2, "d_model": 8}
FEW_TESTS = {"test_rows": 8, "test_per_m": 10, "quick_per_m": 5, "quick_rows": 8}
PAPER_SIZE = {"induction-gpu": "1M", "stories-gpu": "1M", "polynomial-gpu": "10M", "bytes-gpu": "30M"}
DECODING = {"decoding-cpu", "decoding-gpu"}
"""Presets of a second purpose: bytes again, with four offsets from the start."""


def quick_task(config: RunConfig) -> Task:
    """The task with a small test set, which is what takes long to make."""
    fields = {field.name for field in dataclasses.fields(config.task)}
    few = {name: value for name, value in FEW_TESTS.items() if name in fields}
    return make_task(dataclasses.replace(config.task, **few))


def test_every_task_has_a_preset_for_the_cpu_and_one_for_the_gpu():
    assert sorted(set(PRESETS) - DECODING) == sorted(
        f"{task}-{kind}" for task in task_names() for kind in ("cpu", "gpu")
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is(name):
    preset = find_preset(name)
    assert preset.name == name
    assert preset.build().task.name == ("bytes" if name in DECODING else name.rpartition("-")[0])
    assert preset.summary.endswith(".") and preset.seconds_per_step > 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_configuration_that_survives_json(name):
    config = make_config(name)
    assert RunConfig.from_dict(config.to_dict()) == config
    assert (config.preset, config.seed, config.model.n_future) == (name, 0, 4 if name in DECODING else 1)
    train = config.train
    assert config.optim.warmup_steps < train.steps
    assert train.eval_every <= train.checkpoint_every <= train.steps


@pytest.mark.parametrize("control", ["layers", "trunk"])
@pytest.mark.parametrize("name", PRESETS)
def test_two_tokens_ahead_are_possible_with_either_control(name, control):
    model = make_config(name, n_future=2, control=control).model
    assert model.n_trunk_layers >= 1


@pytest.mark.parametrize("name", PRESETS)
def test_task_and_model_of_a_preset_work_together(name):
    config = make_config(name, n_future=2)
    task = quick_task(config)
    assert isinstance(task, Task)
    tiny = dataclasses.replace(config, model=dataclasses.replace(config.model, **TINY))
    tiny = tiny.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    generator = torch.Generator().manual_seed(0)
    batch = task.sample(2, generator)
    assert batch.tokens.shape == (2, task.n_ctx) and batch.loss_mask.any() and batch.score_mask.any()
    with torch.no_grad():
        losses = n_token_losses(MTPTransformer(tiny.model, generator), batch)
    assert losses.shape == (1, 2) and bool(((losses > 0) & losses.isfinite()).all())


@pytest.mark.parametrize(("name", "size"), PAPER_SIZE.items())
def test_gpu_presets_have_a_size_of_the_paper(name, size):
    model = make_config(name).model
    assert {key: getattr(model, key) for key in ("d_model", "n_layers", "n_heads")} == SIZES[size]
    task = quick_task(make_config(name))
    resolved = make_config(name).resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx).model
    millions = count_parameters(resolved).non_embedding / 1e6
    assert millions == pytest.approx(float(size[:-1]), rel=0.1)


OVERRIDES = [
    ({"n_future": 2}, "model", "n_future", 2),
    ({"control": "trunk"}, "model", "control", "trunk"),
    ({"steps": 7}, "train", "steps", 7),
    ({"threads": 1}, "train", "threads", 1),
]


@pytest.mark.parametrize(("override", "part", "name", "value"), OVERRIDES, ids=str)
def test_an_override_changes_its_field_and_nothing_else(override, part, name, value):
    plain, config = make_config("bytes-cpu"), make_config("bytes-cpu", **override)
    assert getattr(getattr(config, part), name) == value
    changed = dataclasses.replace(getattr(plain, part), **{name: value})
    assert config == dataclasses.replace(plain, **{part: changed})


def test_seed_and_label():
    config = make_config("stories-cpu", n_future=2, control="trunk", seed=4)
    assert (config.seed, config.label()) == (4, "stories-cpu-n2-trunk-s4")


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="there is no preset 'storys-cpu'; did you mean 'stories-cpu'"):
        make_config("storys-cpu")


def test_an_impossible_override_is_refused():
    with pytest.raises(ValueError, match="leaves no trunk"):
        make_config("induction-cpu", n_future=30)
