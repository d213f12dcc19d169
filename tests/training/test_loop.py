"""The loop with fakes around it: schedule, counters, callbacks, stopping, the clock."""

import dataclasses
import time
from typing import Any

import pytest
import torch

from playground.config import ClampConfig, OptimConfig, RunConfig, TrainConfig
from playground.model.clamp import apply_clamp
from playground.model.transformer import MTPTransformer
from playground.training.evaluation import evaluate
from playground.training.loop import Clock, Member, fit, start_state
from playground.training.optim import learning_rate, make_optimizer
from tasks.base import seeded_generator
from tasks.induction import Induction, InductionConfig
from tests.cases import FUTURE_HEADS, make_batch, random_tokens, small_config, small_model
from tests.training.support import fit_one, rows


def _config(**train) -> RunConfig:
    return RunConfig(
        task=InductionConfig(n_ctx=12, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=small_config(n_future=2),
        optim=OptimConfig(lr=3e-3, warmup_steps=0),
        train=TrainConfig(**({"steps": 5, "batch_size": 3} | train)),
    )


def _start(config: RunConfig):
    return start_state(small_model(n_future=2), config, torch.Generator().manual_seed(0))


def test_each_step_is_one_optimizer_step_on_one_batch():
    config, drawn, seen = _config(), [], []

    def sample():
        drawn.append(make_batch(random_tokens(seed=len(drawn))))
        return drawn[-1]

    state = _start(config)
    fit_one(state, sample, config, [lambda: seen.append((state.step, state.tokens, state.lr))])
    assert len(drawn) == state.step == 5
    assert [step for step, _, _ in seen] == [1, 2, 3, 4, 5]
    assert [tokens for _, tokens, _ in seen] == [36, 72, 108, 144, 180]
    assert [lr for _, _, lr in seen] == [learning_rate(step, 5, config.optim) for step in range(5)]
    assert all(one.names == ("loss_1", "loss_2") and one.losses.shape == (2,) for one in state.pending)
    assert all(one.grad_norm.shape == () and one.grad_norm > 0 for one in state.pending)


def test_the_loss_falls_on_a_batch_seen_again_and_again():
    config = _config(steps=40)
    batch = make_batch(random_tokens())
    state = fit_one(_start(config), lambda: batch, config)
    assert state.pending[-1].losses.sum() < 0.7 * state.pending[0].losses.sum()


@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
def test_both_backward_ways_train_alike(backward):
    config = _config(backward=backward)
    state = fit_one(_start(config), lambda: make_batch(random_tokens()), config)
    reference = _config(backward="one_graph")
    other = fit_one(_start(reference), lambda: make_batch(random_tokens()), reference)
    torch.testing.assert_close(rows(state)[-1], rows(other)[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [{"accumulate": 3}, {"recompute": True}, {"accumulate": 3, "recompute": True}], ids=str)
def test_saving_memory_does_not_change_what_is_learnt(way):
    """Rows have different numbers of targets, and one has none: the mean is over the targets of all parts."""
    mask = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)) > 0.4
    mask[1] = False
    states = []
    for train in ({}, way):
        config = _config(**train)
        sample = lambda: make_batch(random_tokens(), loss_mask=mask)  # noqa: E731
        states.append(fit_one(_start(config), sample, config))
    torch.testing.assert_close(rows(states[1]), rows(states[0]), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(states[1].model.parameters(), states[0].model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_parts_must_be_equal():
    with pytest.raises(
        ValueError, match="a batch of 8 rows does not divide into accumulate=3 equal parts; write a divisor"
    ):
        TrainConfig(batch_size=8, accumulate=3)


def _losses_on_a_gpu(config: RunConfig, replicas: int) -> torch.Tensor:
    """Losses and gradient norms of all steps, for models trained side by side."""
    members = []
    for seed in range(replicas):
        model = apply_clamp(MTPTransformer(config.model, seeded_generator(seed)).cuda(), config.clamp)
        state = start_state(model, config, seeded_generator(seed, "cuda"))
        tokens = [random_tokens(seed=10 * seed + step) for step in range(config.train.steps)]
        batches = iter([make_batch(each).to("cuda") for each in tokens])
        members.append(Member(state=state, sample=batches.__next__, config=config))
    fit(members)
    return torch.stack([rows(member.state) for member in members])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("way", [{}, {"accumulate": 3}, {"recompute": True}, {"compiled": True}], ids=str)
def test_a_recorded_step_is_the_plain_one(way, replicas):
    plain = _losses_on_a_gpu(_config(steps=12, graphs=False), replicas)
    recorded = _losses_on_a_gpu(_config(steps=12, graphs=True, **way), replicas)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if way else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(recorded, plain, **tolerance)


RECORDED: dict[str, tuple[ClampConfig, dict[str, Any]]] = {
    "forbidden": (ClampConfig(forbid_previous_token=("blocks.0.0", "future_heads.0")), {}),
    "forced": (ClampConfig(force_induction=("blocks.0.1", "future_heads.1")), {}),
    "previous token forced": (ClampConfig(force_previous_token=("all",)), {}),
    "induction forbidden": (ClampConfig(forbid_induction=("trunk",)), {}),
    "frozen": (ClampConfig(freeze_heads=("blocks.0",)), {}),
    "layer norm": (ClampConfig(), {"normalization": "LN", "positions": "standard"}),
    "replicated": (ClampConfig(), {"unembedding": "replicated"}),
    **{kind: (ClampConfig(), {"future_heads": kind}) for kind in FUTURE_HEADS},
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("case", RECORDED)
def test_recorded_steps_of_every_kind_of_training(case, replicas, compiled):
    clamp, options = RECORDED[case]
    plain, recorded = (
        dataclasses.replace(_config(steps=6, **way), clamp=clamp, model=small_config(n_future=2, **options))
        for way in ({"graphs": False}, {"graphs": True, "compiled": compiled})
    )
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if compiled else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(_losses_on_a_gpu(recorded, replicas), _losses_on_a_gpu(plain, replicas), **tolerance)


def test_stopping_is_asked_before_every_step():
    config = _config()
    answers = iter([False, False, True])
    assert fit_one(_start(config), lambda: make_batch(random_tokens()), config, (), lambda: next(answers)).step == 2


def test_gradients_are_clipped():
    config = RunConfig(
        task=_config().task, model=small_config(n_future=2), optim=OptimConfig(clip=1e-12), train=TrainConfig(steps=1)
    )
    norms = []
    model = _start(config)
    original = model.optimizer.step

    def step():
        norms.append(torch.stack([p.grad.norm() for p in model.model.parameters()]).norm().item())
        original()

    model.optimizer.step = step
    fit_one(model, lambda: make_batch(random_tokens()), config)
    assert norms[0] <= 1.1e-12


def test_weight_decay_spares_norms():
    optimizer = make_optimizer(small_model(normalization="LN"), OptimConfig(weight_decay=0.3))
    decay = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in optimizer.param_groups}
    assert decay == {0.3: {2}, 0.0: {1}}


def test_learning_rate_ends_near_its_floor():
    config = OptimConfig(lr=2.0, warmup_steps=10, min_lr_ratio=0.03)
    rates = [learning_rate(step, 1000, config) for step in range(1000)]
    assert rates[0] == 0.2
    assert max(rates) == 2.0 == rates[9]
    assert rates[-1] == pytest.approx(0.06, rel=1e-3)
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


def test_the_clock_leaves_out_pauses():
    clock = Clock(5.0)
    with clock.paused():
        time.sleep(0.05)
    assert 5.0 <= clock.seconds < 5.04


def test_evaluation_restores_the_mode_and_keeps_no_gradients():
    model = small_model(n_future=2).train()
    task = Induction(_config().task)
    result = evaluate(model, task)
    assert model.training
    assert len(result.loss) == 2
    assert result.scores[0].name == "repeat_accuracy"
    evaluate(model.eval(), task)
    assert not model.training and torch.is_grad_enabled()
