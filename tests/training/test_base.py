"""Further heads on a frozen trunk: their gradients are those of plain autograd, and what is the base's neither moves nor learns."""

import pytest
import torch

from playground.config import BaseConfig, ClampConfig, OptimConfig, RunConfig, TrainConfig, future_head_type
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base, is_further, start_on_base
from playground.training.loop import start_state
from playground.training.objectives.n_token import NToken, n_token_losses
from playground.training.optim import make_optimizer
from tasks.base import Batch
from tasks.induction import InductionConfig
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, make_batch, random_tokens, small_config, small_model
from tests.training.support import fit_one, rows

FITTING = [kind for kind in FUTURE_HEADS if future_head_type(kind).fits_base]
ZERO_AT_FIRST = ("medusa_linear", "medusa_mlp", "hydra")


def on_base(kind: str, **changes) -> MTPTransformer:
    """A model with 3 offsets whose trunk is that of a model of `base()`, of which it holds nothing yet."""
    return small_model(seed=7, n_future=3, control="trunk", future_heads=kind, **changes)


def base(**changes) -> MTPTransformer:
    return small_model(seed=1, **changes)


def batch_with_documents() -> Batch:
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, -1]]).repeat(4, 1)
    return make_batch(random_tokens(rows=4), documents=documents, loss_mask=documents >= 0)


def test_which_types_fit():
    assert FITTING == ["causal", "hydra", "independent", "medusa_linear", "medusa_mlp", "sequential"]


@pytest.mark.parametrize("unembedding", ["shared", "replicated"])
@pytest.mark.parametrize("kind", FITTING)
@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
def test_gradients_are_those_of_the_sum_over_offsets_from_2_on(backward, kind, unembedding):
    model, batch = on_base(kind, unembedding=unembedding).double(), batch_with_documents()
    losses = n_token_losses(model, batch)[0]
    further = {name: parameter for name, parameter in model.named_parameters() if is_further(name)}
    plain = dict(zip(further, torch.autograd.grad(losses[1:].sum(), list(further.values())), strict=True))

    freeze_base(model)
    found = NToken().loss(backward)(model, batch, None)
    found.total.backward()
    torch.testing.assert_close(found.each[0], losses.detach(), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        if name in further:
            torch.testing.assert_close(parameter.grad, plain[name], rtol=1e-10, atol=1e-13)
        else:
            assert parameter.grad is None and not parameter.requires_grad, name


@pytest.mark.parametrize("kind", FITTING)
@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
def test_nothing_goes_backward_through_what_is_the_bases(backward, kind):
    model, streams = on_base(kind), {}
    freeze_base(model)

    def keep(name: str):
        return lambda _module, _inputs, output: streams.setdefault(name, output)

    for name in ("embed", "blocks.0", "blocks.1", "future_heads.0", "future_heads.1"):
        model.get_submodule(name).register_forward_hook(keep(name))
    NToken().loss(backward)(model, batch_with_documents(), None).total.backward()
    learning = {name: stream.requires_grad for name, stream in streams.items()}
    assert learning == dict.fromkeys(streams, False) | {"future_heads.1": True}


def test_a_shared_unembedding_is_the_bases_and_replicated_ones_learn():
    for unembedding, learning in (("shared", []), ("replicated", ["more_unembeds.0.weight", "more_unembeds.1.weight"])):
        model = on_base("medusa_linear", unembedding=unembedding)
        freeze_base(model)
        heads = [f"future_heads.{index}.{part}.weight" for index in (1, 2) for part in ("ln", "out")]
        assert [name for name, each in model.named_parameters() if each.requires_grad] == heads + learning
        optimizer = make_optimizer(model, OptimConfig(weight_decay=0.5))
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert {id(parameter) for parameter in held} == {id(each) for each in model.parameters() if each.requires_grad}


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_a_start_takes_over_every_weight_of_the_base(options):
    ours, theirs, tokens = on_base("medusa_mlp", **options), base(**options), random_tokens()
    start_on_base(ours, theirs.state_dict())
    assert torch.equal(ours(tokens), theirs(tokens))
    ours_state = ours.state_dict()
    assert all(torch.equal(value, ours_state[name]) for name, value in theirs.state_dict().items())


@pytest.mark.parametrize("unembedding", ["shared", "replicated"])
@pytest.mark.parametrize("kind", FITTING)
def test_medusas_and_hydras_heads_start_as_offset_1_and_layers_as_they_were_drawn(kind, unembedding):
    ours, theirs, tokens = on_base(kind, unembedding=unembedding), base(), random_tokens()
    drawn = {name: value.clone() for name, value in ours.state_dict().items()}
    start_on_base(ours, theirs.state_dict())
    logits = ours(tokens, (1, 2, 3))
    assert torch.equal(logits[:, :, 0], theirs(tokens)) or unembedding == "shared"
    torch.testing.assert_close(logits[:, :, 0], theirs(tokens))
    for offset in (2, 3):
        if kind in ZERO_AT_FIRST:
            torch.testing.assert_close(logits[:, :, offset - 1], logits[:, :, 0])
        if unembedding == "replicated":
            assert torch.equal(ours.unembed_of(offset).weight, theirs.unembed.weight)
    changed = [
        name for name, value in ours.state_dict().items() if not torch.equal(value, drawn[name]) and is_further(name)
    ]
    outs = [f"future_heads.{index}.out.weight" for index in (1, 2)] if kind in ZERO_AT_FIRST else []
    copies = [f"more_unembeds.{index}.weight" for index in (0, 1)] if unembedding == "replicated" else []
    assert changed == outs + copies


@pytest.mark.parametrize("kind", ZERO_AT_FIRST)
def test_a_matrix_of_zeros_learns(kind):
    model = on_base(kind)
    start_on_base(model, base().state_dict())
    freeze_base(model)
    NToken().loss("per_head")(model, batch_with_documents(), None).total.backward()
    for head in list(model.future_heads)[1:]:
        assert head.out.weight.grad.abs().sum() > 0


def test_weights_of_another_model_are_refused():
    with pytest.raises(
        ValueError, match=r"the base's weights are not of this model: embed\.weight has the shape .* here; write"
    ):
        start_on_base(on_base("hydra"), base(d_vocab=12).state_dict())
    with pytest.raises(ValueError, match=r"future_heads\.1\.ln\.weight has the shape .* there and None here"):
        start_on_base(on_base("hydra"), on_base("medusa_linear").state_dict())


@pytest.mark.parametrize("kind", FITTING)
def test_training_moves_the_further_heads_and_nothing_else(kind):
    config = RunConfig(
        task=InductionConfig(n_ctx=12, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=small_config(n_future=3, control="trunk", future_heads=kind),
        optim=OptimConfig(lr=1e-2, warmup_steps=0, weight_decay=0.5),
        train=TrainConfig(steps=3),
        base=BaseConfig(run="some-run"),
        clamp=ClampConfig(freeze_heads=("all",)),
    )
    model, batch = on_base(kind), batch_with_documents()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = fit_one(start_state(model, config, torch.Generator().manual_seed(0)), lambda: batch, config)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    held = (".attn.qkv.weight", ".attn.out.weight")  # of the heads that the clamp freezes
    assert moved == {name for name in before if is_further(name) and not name.endswith(held)}
    losses = rows(state)
    assert torch.equal(losses[0, 0], losses[2, 0])
    assert losses[2, 1:3].sum() < losses[0, 1:3].sum()
