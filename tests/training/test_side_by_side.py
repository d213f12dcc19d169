"""Replicas side by side against the same models trained one after another."""

import dataclasses
import math
from typing import cast

import pytest
import torch

from playground.config import ClampConfig, OptimConfig, RunConfig, TrainConfig
from playground.model.clamp import apply_clamp
from playground.model.layers import Attention
from playground.model.stack import Stack
from playground.training.base import start_on_base
from playground.training.loop import Member, TrainState, fit, start_state
from playground.training.step import Learner, PlainStep
from tasks.induction import Induction, InductionConfig
from tests.cases import MODEL_OPTIONS, TYPE_OPTIONS, random_tokens, small_config, small_model
from tests.training.support import fit_one, rows

pytestmark = pytest.mark.usefixtures("no_shape_checks")

REPLICAS = 3
TASK = InductionConfig(n_ctx=12, d_vocab=11, min_distance=3, max_distance=6, test_rows=16)


def configuration(
    seed: int = 0,
    *,
    optim: OptimConfig | None = None,
    clamp: ClampConfig | None = None,
    steps: int = 10,
    train: dict | None = None,
    **model,
) -> RunConfig:
    return RunConfig(
        task=TASK,
        model=small_config(**({"n_future": 2} | model)),
        seed=seed,
        clamp=clamp or ClampConfig(),
        optim=optim or OptimConfig(lr=3e-3, warmup_steps=2),
        train=TrainConfig(steps=steps, batch_size=4, **(train or {})),
    )


def start(config: RunConfig) -> tuple[TrainState, Member]:
    task = Induction(config.task)
    model = apply_clamp(small_model(config.seed, **dataclasses.asdict(config.model)), config.clamp)
    state = start_state(model, config, torch.Generator().manual_seed(config.seed))
    return state, Member(
        state=state, sample=lambda: task.sample(config.train.batch_size, state.generator), config=config
    )


def trained(configs: list[RunConfig]) -> tuple[list[TrainState], list[TrainState]]:
    """Each alone, and all together."""
    alone = []
    for config in configs:
        state, member = start(config)
        alone.append(fit_one(state, member.sample, config))
    together = [start(config) for config in configs]
    fit([member for _, member in together])
    return alone, [state for state, _ in together]


def assert_equal(alone: list[TrainState], together: list[TrainState], **tolerance: float) -> None:
    tolerance = tolerance or {"rtol": 1e-3, "atol": 1e-5}
    for one, other in zip(alone, together, strict=True):
        assert (one.step, one.tokens, one.lr) == (other.step, other.tokens, other.lr)
        torch.testing.assert_close(rows(other), rows(one), **tolerance)
        for (name, ours), theirs in zip(other.model.named_parameters(), one.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, **tolerance, msg=lambda text, name=name: f"{name}: {text}")
        for ours, theirs in zip(other.model.parameters(), one.model.parameters(), strict=True):
            torch.testing.assert_close(other.optimizer.state[ours], one.optimizer.state[theirs], **tolerance)
        assert torch.equal(one.generator.get_state(), other.generator.get_state())


def test_fifty_steps_with_seeds_rates_and_clipping_of_their_own():
    optims = [
        OptimConfig(lr=3e-3, warmup_steps=5),
        OptimConfig(lr=1e-3, warmup_steps=20),
        OptimConfig(lr=2e-3, clip=0.1),
    ]
    configs = [configuration(seed, optim=optim, steps=50) for seed, optim in enumerate(optims)]
    assert_equal(*trained(configs))


@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
def test_every_type_of_future_heads(options):
    assert_equal(*trained([configuration(seed, n_layers=5, n_future=3, **options) for seed in range(REPLICAS)]))


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_every_option_of_the_model(options):
    assert_equal(*trained([configuration(seed, **options) for seed in range(REPLICAS)]))


@pytest.mark.parametrize("train", [{"backward": "one_graph"}, {"accumulate": 2}, {"recompute": True}], ids=str)
def test_every_way_to_the_gradient(train):
    assert_equal(*trained([configuration(seed, train=train) for seed in range(REPLICAS)]))


@pytest.mark.parametrize(
    "clamp",
    [
        ClampConfig(freeze_heads=("blocks.0.1",)),
        ClampConfig(forbid_induction=("all",)),
        ClampConfig(force_previous_token=("blocks.0.0",)),
    ],
    ids=["freeze", "forbid", "force"],
)
def test_clamps_hold_in_every_replica(clamp):
    configs = [configuration(seed, clamp=clamp) for seed in range(REPLICAS)]
    alone, together = trained(configs)
    assert_equal(alone, together)
    if clamp.freeze_heads:
        for seed, state in enumerate(together):
            ours, theirs = (
                cast(Attention, model.get_submodule("blocks.0.attn")).W_Q
                for model in (state.model, small_model(seed, n_future=2))
            )
            torch.testing.assert_close(ours[1], theirs[1])
            assert not torch.allclose(ours[0], theirs[0])


def test_further_heads_on_frozen_bases():
    configs = [
        configuration(seed, n_future=3, n_layers=3, future_heads="medusa_mlp", control="trunk")
        for seed in range(REPLICAS)
    ]
    states = []
    for _ in range(2):
        started = []
        for config in configs:
            base = small_model(config.seed + 10, n_layers=3, n_future=1)
            model = small_model(config.seed, **dataclasses.asdict(config.model))
            start_on_base(model, base.state_dict())
            for name, parameter in model.named_parameters():
                parameter.requires_grad_("future_heads.0" not in name and name.startswith("future_heads."))
            state = start_state(model, config, torch.Generator().manual_seed(config.seed))
            sample = lambda state=state: Induction(TASK).sample(4, state.generator)  # noqa: E731
            started.append(Member(state=state, sample=sample, config=config))
        states.append(started)
    for member in states[0]:
        fit_one(member.state, member.sample, member.config)
    fit(states[1])
    assert_equal([member.state for member in states[0]], [member.state for member in states[1]])


def test_one_that_diverges_leaves_the_others_alone():
    configs = [configuration(seed) for seed in range(REPLICAS)]
    alone, _ = trained(configs)
    together = [start(config) for config in configs]
    with torch.no_grad():
        together[1][0].model.blocks[0].attn.qkv.weight.fill_(torch.nan)
    fit([member for _, member in together])
    states = [state for state, _ in together]
    assert not rows(states[1]).isfinite().any()
    assert_equal([alone[0], alone[2]], [states[0], states[2]])


@pytest.mark.parametrize("together_first", [True, False])
def test_models_may_be_trained_together_and_alone_in_turn(together_first):
    configs = [configuration(seed) for seed in range(REPLICAS)]
    alone = [fit_one(state, member.sample, member.config) for state, member in map(start, configs)]
    states, members = zip(*map(start, configs), strict=True)
    for number, last in enumerate((4, 7, 10)):
        if (number % 2 == 0) == together_first:
            fit(members, should_stop=lambda last=last: states[0].step == last)
        else:
            for state, member in zip(states, members, strict=True):
                fit_one(
                    state, member.sample, member.config, should_stop=lambda last=last, state=state: state.step == last
                )
    assert_equal(alone, list(states))


def test_replicas_of_equal_settings_share_an_optimizer_and_a_rate():
    members = [start(configuration(seed))[1] for seed in range(REPLICAS)]
    learners = [
        Learner(model=one.state.model, optimizer=one.state.optimizer, optim=one.config.optim) for one in members
    ]
    step = PlainStep(learners, members[0].config)
    assert len(step.optimizers) == 1
    with pytest.raises(ValueError, match=r"learn at one rate, not at \[0.1, 0.2\]"):
        step([one.sample() for one in members], [0.1, 0.2, 0.1])


def test_the_joint_model_computes_what_each_computes():
    models = [small_model(seed, n_future=3, n_layers=4) for seed in range(REPLICAS)]
    tokens = random_tokens(rows=2 * REPLICAS)
    expected = torch.cat([model(rows, (1, 3)) for model, rows in zip(models, tokens.chunk(REPLICAS), strict=True)])
    joint = Stack(models).joint
    torch.testing.assert_close(joint(tokens, (1, 3)), expected)
    assert set(joint.hook_dict) == set(models[0].hook_dict)
    logits, cache = joint.run_with_cache(tokens)
    own, theirs = models[1].run_with_cache(tokens[2:4])
    torch.testing.assert_close(logits[2:4], own)
    for name, value in theirs.items():
        torch.testing.assert_close(cache[name][2:4], value, rtol=1e-4, atol=1e-6)


def test_models_in_a_stack_stay_ordinary_models_that_see_what_the_stack_learns():
    models = [small_model(seed) for seed in range(REPLICAS)]
    stack = Stack(models)
    with torch.no_grad():
        stack.joint.unembed.weight[1].zero_()
    assert models[1].unembed.weight.abs().sum() == 0 and models[0].unembed.weight.abs().sum() > 0
    assert models[1](random_tokens()).abs().max() == 0
    assert math.isfinite(models[2](random_tokens()).sum().item())


def test_models_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="different configurations cannot be stacked; train them one after another"):
        Stack([small_model(), small_model(n_layers=4)])
