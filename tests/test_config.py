"""Configurations: strict, frozen, read back equal, hashed stably, and clear about what is impossible."""

import dataclasses
import json

import pytest

from playground.config import ClampConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, select_heads
from playground.running.presets import PRESETS, make_config
from tasks.induction import InductionConfig


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset):
    config = make_config(preset, n_future=2, seed=3)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


IMPOSSIBLE = [
    (lambda: ModelConfig(d_model=65, n_heads=4), "d_model 65 is not divisible by n_heads 4; write d_model=68"),
    (lambda: ModelConfig(n_layers=2, n_future=2), "n_future 2 leaves no trunk of 2 layers under control 'layers'; write n_layers=3"),
    (lambda: ModelConfig(n_layers=2, n_future=3, control="trunk", future_heads="anticausal"), "n_future 3 of anticausal future heads leaves no trunk of 2 layers under control 'trunk'; write n_layers=3 or more or a smaller n_future"),
    (lambda: ModelConfig(n_layers=1, n_future=2, future_heads="medusa_mlp"), "leaves no trunk of 1 layers under control 'layers'; write n_layers=2 or more or control='trunk'"),
    (lambda: ModelConfig(n_layers=2, n_future=2, future_heads="causal"), "write n_layers=3 or more, a smaller n_future, or control='trunk'"),
    (lambda: ModelConfig(future_heads="casual"), "future_heads is 'casual'; did you mean 'causal'"),
    (lambda: ModelConfig(n_future=8, n_ctx=8, control="trunk"), "n_future 8 reaches past a context of 8 tokens; write n_future <= 7"),
    (lambda: ModelConfig(d_model=12, n_heads=4), "rotary positions need an even d_head"),
    (lambda: ModelConfig(control="layer"), "control is 'layer'; write one of 'layers', 'trunk'"),
    (lambda: ModelConfig(n_future=0), "n_future is 0; write at least 1"),
    (lambda: OptimConfig(lr=0), "lr is 0; write a number above 0, such as 0.001"),
    (lambda: OptimConfig(lr=float("nan")), "lr is nan"),
    (lambda: OptimConfig(beta2=1.0), "beta2 is 1.0; write a number below 1, such as 0.95"),
    (lambda: OptimConfig(clip=0), "clip is 0"),
    (lambda: OptimConfig(min_lr_ratio=2), "min_lr_ratio is 2; write at most 1"),
    (lambda: TrainConfig(steps=0), "steps is 0; write at least 1"),
    (lambda: TrainConfig(threads=0), "threads is 0; write at least 1"),
    (lambda: RunConfig(task=InductionConfig(), seed=-1), "seed is -1"),
    (lambda: RunConfig(task=InductionConfig(), model=ModelConfig(n_future=64, control="trunk")), "reaches past the task's context of 64"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), IMPOSSIBLE)
def test_impossible_combinations_say_what_to_write(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["model"].update(n_layer=3), "model has no field 'n_layer'; did you mean 'n_layers'?"),
        (lambda d: d["task"].update(dvocab=3), "task has no field 'dvocab'; did you mean 'd_vocab'?"),
        (lambda d: d.update(sed=3), "run has no field 'sed'; did you mean 'seed'?"),
        (lambda d: d["optim"].update(lr="big"), "optim.lr is 'big'; it must be float"),
        (lambda d: d["train"].update(steps=1.5), "train.steps is 1.5; it must be int"),
        (lambda d: d["task"].update(name="inductoin"), "there is no task 'inductoin'; did you mean 'induction'?"),
        (lambda d: d.pop("task"), "names no task"),
    ],
)
def test_strict_reading_names_the_nearest_key(change, message):
    values = json.loads(json.dumps(make_config("induction-cpu").to_dict()))
    change(values)
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        RunConfig.from_dict(values)


def test_whole_numbers_are_floats_too():
    values = make_config("induction-cpu").to_dict()
    values["optim"]["lr"] = 1
    assert RunConfig.from_dict(values).optim.lr == 1


def test_the_hash_is_stable_and_tells_configurations_apart():
    config = RunConfig(task=InductionConfig())
    assert config.hash() == RunConfig.from_dict(config.to_dict()).hash()
    changed = [dataclasses.replace(config, seed=1), dataclasses.replace(config, optim=OptimConfig(lr=2e-3))]
    assert len({config.hash(), *(other.hash() for other in changed)}) == 3


def test_configurations_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig(task=InductionConfig()).seed = 1
    with pytest.raises(TypeError):
        ModelConfig(2)


@pytest.mark.parametrize(
    ("control", "n_future", "trunk", "depth"),
    [
        ("layers", 1, 4, 5),
        ("layers", 2, 3, 4),
        ("layers", 4, 1, 2),
        ("trunk", 1, 4, 5),
        ("trunk", 4, 4, 5),
    ],
)
def test_controls(control, n_future, trunk, depth):
    config = ModelConfig(n_layers=5, n_future=n_future, control=control)
    assert (config.n_trunk_layers, config.next_token_depth) == (trunk, depth)


@pytest.mark.parametrize(
    ("kind", "layers", "trunk"),
    [
        ("independent", (3, 4), (5, 6)),
        ("causal", (3, 4), (5, 6)),
        ("anticausal", (3, 6), (3, 6)),
        ("sequential", (3, 4), (5, 6)),
        ("linear", (6, 6), (6, 6)),
        ("medusa_linear", (5, 6), (5, 6)),
        ("medusa_mlp", (5, 6), (5, 6)),
    ],
)
def test_what_the_types_leave_of_the_trunk_and_how_deep_the_next_token_is(kind, layers, trunk):
    for control, expected in (("layers", layers), ("trunk", trunk)):
        config = ModelConfig(n_layers=6, n_future=3, control=control, future_heads=kind)
        assert (config.n_trunk_layers, config.next_token_depth) == expected


def test_what_was_before_the_types_keeps_hash_and_label():
    old = RunConfig(
        task=InductionConfig(),
        clamp=ClampConfig(freeze_heads=("all",)),
        preset="induction-cpu",
        seed=3,
        model=ModelConfig(n_layers=4, n_future=2, control="trunk"),
    )
    assert (old.hash(), old.label()) == ("4469f1c5", "induction-cpu-n2-trunk-clamped-s3")
    stored = old.to_dict()
    del stored["model"]["future_heads"], stored["model"]["unembedding"]
    assert RunConfig.from_dict(stored) == old
    model = dataclasses.replace(old.model, future_heads="causal", unembedding="replicated")
    new = dataclasses.replace(old, model=model)
    assert new.label() == "induction-cpu-n2-causal-replicated-trunk-clamped-s3"
    assert new.hash() != old.hash() and RunConfig.from_dict(json.loads(json.dumps(new.to_dict()))) == new


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("independent", ("blocks.0", "future_heads.0", "future_heads.1")),
        ("linear", ("blocks.0", "blocks.1", "blocks.2")),
        ("medusa_mlp", ("blocks.0", "blocks.1", "future_heads.0")),
    ],
)
def test_only_layers_with_attention_have_heads_to_clamp(kind, layers):
    model = ModelConfig(n_layers=3, n_future=2, n_heads=2, future_heads=kind)
    assert tuple(select_heads(("all",), model)) == layers
    if "future_heads.1" not in layers:
        with pytest.raises(ValueError, match=r"'future_heads\.1' names no attention head"):
            select_heads(("future_heads.1",), model)
