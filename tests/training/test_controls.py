"""The controls of a comparison over n: what `detached` and `flops` keep equal, weights of offsets, and clipping by a part."""

import dataclasses
import itertools
from typing import get_args

import pytest
import torch

from playground.config import BaseConfig, Control, RunConfig
from playground.config.flops import training_flops_per_token
from playground.model.transformer import MTPTransformer
from playground.running.presets import make_config
from playground.running.runner import train
from playground.training.loop import start_state
from playground.training.objectives.n_token import NToken
from playground.training.sampler import Sampler
from playground.training.step import Learner, PlainStep
from playground.training.step_result import to_rows
from tasks.base import Batch, seeded_generator
from tasks.induction import InductionConfig
from tests.cases import FUTURE_HEADS, make_batch, random_tokens, small_config, small_model
from tests.training.support import fit_one

CONTROLS = get_args(Control)
ON_THE_PATH = [kind for kind in FUTURE_HEADS if kind != "anticausal"]


def gradients(model: MTPTransformer, backward: str, weights=()) -> dict[str, torch.Tensor]:
    model.zero_grad()
    NToken().loss(backward)(model, make_batch(random_tokens()), None, weights).total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def is_trunk(name: str) -> bool:
    """Whether a parameter is the next token's alone: norm and unembedding serve all offsets."""
    return name.startswith(("embed.", "pos_embed.", "blocks.", "future_heads.0."))


@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
@pytest.mark.parametrize("kind", ON_THE_PATH)
@pytest.mark.parametrize("n_future", [2, 4])
def test_detached_leaves_the_next_tokens_path_the_gradients_of_n_1(n_future, kind, backward):
    shape = {"n_layers": 4, "future_heads": kind, "positions": "standard"}
    one = gradients(small_model(**shape), backward)
    detached = gradients(small_model(n_future=n_future, control="detached", **shape), backward)
    trunk = gradients(small_model(n_future=n_future, control="trunk", **shape), backward)
    for name in filter(is_trunk, one):
        torch.testing.assert_close(detached[name], one[name], msg=name)
        assert name.startswith("future_heads.") or not torch.allclose(trunk[name], one[name]), name
    assert all(detached[name].abs().max() > 0 for name in detached)
    assert detached.keys() == trunk.keys(), "further future heads learn as before"
    for name in (name for name in trunk if name.startswith("future_heads.1")):
        torch.testing.assert_close(detached[name], trunk[name], msg=name)


def test_detached_is_refused_where_other_heads_lie_on_the_next_tokens_path():
    with pytest.raises(ValueError, match="with anticausal future heads it runs through them"):
        small_config(n_future=2, control="detached", future_heads="anticausal")
    assert small_config(n_future=1, control="detached", future_heads="anticausal").n_trunk_layers == 2


def test_batches_are_equal_for_every_n_and_control(tmp_path, monkeypatch):
    """The data's stream knows the seed alone."""
    drawn: list[torch.Tensor] = []
    plain = Sampler.__call__

    def telling(self: Sampler) -> Batch:
        batch = plain(self)
        drawn.append(batch.tokens)
        return batch

    monkeypatch.setattr(Sampler, "__call__", telling)
    found = []
    for n_future, control in itertools.product((1, 2, 4), CONTROLS):
        drawn.clear()
        train(tiny(n_future, control, n_layers=5, steps=8), tmp_path)
        found.append(torch.stack(drawn[:4]))
    assert all(torch.equal(other, found[0]) for other in found)


def tiny(n_future: int = 2, control: Control = "trunk", n_layers: int = 3, **changes) -> RunConfig:
    config = make_config("induction-cpu")
    model = dataclasses.replace(
        config.model, n_layers=n_layers, d_model=16, n_heads=2, n_future=n_future, control=control
    )
    task = InductionConfig(n_ctx=16, d_vocab=12, min_distance=2, max_distance=4, test_rows=4, quick_rows=2)
    train_options = {"steps": 12, "batch_size": 4, "eval_every": 6, "probe_points": 0, "threads": 1} | changes
    return dataclasses.replace(config, model=model, task=task, train=dataclasses.replace(config.train, **train_options))


@pytest.mark.parametrize("n_future", [1, 2, 4])
def test_control_flops_takes_as_many_steps_as_cost_the_same(n_future, tmp_path):
    config = tiny(n_future, "flops", n_layers=5, steps=40)
    run = train(config, tmp_path)
    model = run.config.model
    one = dataclasses.replace(model, n_future=1)
    spent, allowed = run.record.step * training_flops_per_token(model), 40 * training_flops_per_token(one)
    assert run.record.steps == run.record.step == run.config.steps
    assert spent == pytest.approx(allowed, abs=0.5 * training_flops_per_token(model))
    assert (run.record.steps < 40) == (n_future > 1) and run.config.train.steps == 40
    assert run.checkpoints[-1] == run.record.step == int(run.metrics["step"].to_numpy().max())


def test_steps_of_equal_flops_need_the_vocabulary():
    with pytest.raises(ValueError, match="give d_vocab and n_ctx"):
        _ = tiny(2, "flops").steps
    assert tiny(2, "trunk").steps == tiny(1, "flops").steps == 12


# --- weights of offsets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_weighted_gradients_are_the_weighted_sum_of_each_offsets(kind, backward):
    model = small_model(n_layers=5, n_future=3, future_heads=kind).double()
    alone = [gradients(model, backward, tuple(1.0 if k == i else None for k in range(3))) for i in range(3)]
    weights = (0.5, 2.0, 0.0)
    for name, found in gradients(model, backward, weights).items():
        parts = [w * each[name] for w, each in zip(weights, alone, strict=True) if name in each]
        torch.testing.assert_close(found, torch.stack(parts).sum(dim=0), rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
def test_losses_are_told_without_their_weights(backward):
    model, batch = small_model(n_layers=5, n_future=3), make_batch(random_tokens())
    plain = NToken().loss(backward)(model, batch, None)
    weighted = NToken().loss(backward)(model, batch, None, (0.5, 2.0, 0.0))
    torch.testing.assert_close(weighted.each, plain.each)
    torch.testing.assert_close(weighted.total, (plain.each * torch.tensor([0.5, 2.0, 0.0])).sum())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"offset_weights": (1.0,)}, "offset_weights has an entry for 1 of 2 offsets; write one number for each"),
        ({"offset_weights": (1.0, -1.0)}, "offset_weights has -1.0 for offset 2; write 0, or a number from"),
        ({"offset_weights": (1.0, float("nan"))}, "offset_weights"),
        ({"offset_weights": (0.0, 0.0)}, "offset_weights are all 0"),
        ({"offset_weights": (1e-300, 1e-300)}, "offset_weights has 1e-300 for offset 1; write 0, or a number from"),
    ],
)
def test_impossible_weights_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        tiny(2, **changes)


def test_a_weight_of_zero_learns_the_next_token_as_n_1_does(tmp_path):
    """Under `trunk`, with no weight on offset 2, the next token's path is that of n = 1, step by step."""
    one = train(tiny(1), tmp_path).model()
    two = train(tiny(2, offset_weights=(1.0, 0.0)), tmp_path).model()
    tokens = random_tokens(length=16, d_vocab=12)
    torch.testing.assert_close(two(tokens), one(tokens))


# --- clipping ----------------------------------------------------------------------------------------------------------


def test_a_part_without_weight_is_nothing_to_clip_by():
    config = tiny(2, offset_weights=(0.0, 1.0))
    with pytest.raises(ValueError, match="clip_by 'next_token' with weight 0 for offset 1"):
        dataclasses.replace(config, optim=dataclasses.replace(config.optim, clip_by="next_token"))
    with pytest.raises(ValueError, match="on a base offset 1 is not trained"):
        dataclasses.replace(tiny(2, offset_weights=(1.0, 0.0)), base=BaseConfig(run="x"))


def stepped(clip_by: str, n_future: int, seeds=(0,), **changes) -> tuple[torch.Tensor, list[MTPTransformer]]:
    """Losses and norm `[replica, loss and norm]` of a step of one model, or of several side by side, and the models after it."""
    config = tiny(n_future, **changes).resolve(d_vocab=12, n_ctx=16)
    optim = dataclasses.replace(config.optim, clip=0.05, clip_by=clip_by, warmup_steps=0)
    config = dataclasses.replace(config, optim=optim)
    states = [
        start_state(MTPTransformer(config.model, seeded_generator(seed)), config, seeded_generator(seed))
        for seed in seeds
    ]
    learners = [Learner(model=state.model, optimizer=state.optimizer, optim=optim) for state in states]
    step = PlainStep(learners, config)
    batches = [make_batch(random_tokens(rows=4, length=16, d_vocab=12, seed=seed)) for seed in seeds]
    result = step(batches, [1e-3] * len(seeds))
    return to_rows(result.unbind(), result.names), [state.model for state in states]


def norm_of_next_token(n_future: int, seed: int = 0, **changes) -> float:
    config = tiny(n_future, **changes).resolve(d_vocab=12, n_ctx=16)
    model = MTPTransformer(config.model, seeded_generator(seed))
    batch = make_batch(random_tokens(rows=4, length=16, d_vocab=12, seed=seed))
    NToken().one_graph(model, batch, None, (1.0, *(None,) * (n_future - 1))).total.backward()
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
@pytest.mark.parametrize("n_future", [1, 3])
def test_clipping_by_the_next_tokens_part_takes_its_norm(n_future, backward, accumulate):
    options = {"n_layers": 5, "backward": backward, "accumulate": accumulate}
    whole, _ = stepped("all", n_future, **options)
    part, (model,) = stepped("next_token", n_future, **options)
    assert part[0, -1].item() == pytest.approx(norm_of_next_token(n_future, **options), rel=1e-4)
    assert (part[0, -1] < whole[0, -1]).item() == (n_future > 1)
    torch.testing.assert_close(part[:, :-1], whole[:, :-1])
    total = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert total.item() == pytest.approx(0.05 * (whole[0, -1] / part[0, -1]).item(), rel=1e-3)


def test_models_side_by_side_are_clipped_as_each_alone():
    found, together = stepped("next_token", 3, seeds=(0, 1), n_layers=5)
    for place, model in enumerate(together):
        own, (alone,) = stepped("next_token", 3, seeds=(place,), n_layers=5)
        torch.testing.assert_close(found[place], own[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.W_E, alone.W_E, rtol=1e-3, atol=1e-5)


def test_the_share_of_clipped_steps_is_stored(tmp_path):
    config = tiny(2, log_every=4)
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, clip=1e9))
    rows = train(config, tmp_path).metrics
    assert set(rows["clipped"].dropna()) == {0.0} and (rows["grad_norm"].dropna() > 0).to_numpy().all()
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, clip=1e-9))
    assert set(train(config, tmp_path).metrics["clipped"].dropna()) == {1.0}


def test_fit_takes_the_steps_of_the_control():
    config = tiny(2, "flops", steps=40).resolve(d_vocab=12, n_ctx=16)
    state = start_state(MTPTransformer(config.model, seeded_generator(0)), config, seeded_generator(0))
    batch = make_batch(random_tokens(rows=4, length=16, d_vocab=12))
    assert fit_one(state, lambda: batch, config).step == config.steps < 40
