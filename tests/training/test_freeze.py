"""Frozen heads keep their weights to the last bit, through gradients, momentum, weight decay and a resume."""

import dataclasses

import torch

from playground.config import ClampConfig, OptimConfig, RunConfig, TrainConfig
from playground.model.transformer import MTPTransformer
from playground.running.runner import resume, train
from tasks.induction import InductionConfig
from tests.cases import small_config


def config(**clamp) -> RunConfig:
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=32),
        model=small_config(n_future=2, d_vocab=None, n_ctx=None),
        optim=OptimConfig(lr=3e-3, warmup_steps=2, weight_decay=0.5),
        train=TrainConfig(steps=12, batch_size=8, eval_every=6, checkpoint_every=5, threads=1, probe_points=0),
        clamp=ClampConfig(**clamp),
    )


def head_weights(model: MTPTransformer, head: int) -> list[torch.Tensor]:
    return [getattr(model.blocks[0].attn, name)[head] for name in ("W_Q", "W_K", "W_V", "W_O")]


def test_frozen_heads_keep_their_weights_and_the_others_learn(tmp_path):
    run = train(config(freeze_heads=("blocks.0.1",)), tmp_path)
    first, last = run.model(0), run.model()
    assert all(torch.equal(*pair) for pair in zip(head_weights(first, 1), head_weights(last, 1), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(head_weights(first, 0), head_weights(last, 0), strict=True))


def test_a_resumed_clamped_run_ends_as_an_uninterrupted_one(tmp_path):
    chosen = config(freeze_heads=("blocks.0.0",), forbid_previous_token=("all",))
    whole = train(chosen, tmp_path / "a").model()
    steps = iter([""] * 7)
    stopped = train(chosen, tmp_path / "b", should_stop=lambda: next(steps, "stop"))
    assert stopped.record.state == "stopped"
    resumed = resume(stopped).model()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_stored_clamp_is_read_back_and_names_the_run(tmp_path):
    run = train(config(forbid_induction=("future_heads.0",)), tmp_path)
    assert run.config.clamp == ClampConfig(forbid_induction=("future_heads.0",))
    assert "-clamped-" in run.id
    assert RunConfig.from_dict(run.config.to_dict()) == run.config
    plain = dataclasses.replace(run.config, clamp=ClampConfig())
    values = plain.to_dict()
    del values["clamp"]  # as written before there were clamps
    assert RunConfig.from_dict(values) == plain
