"""The n-token loss against a slow loop, and its two gradients against each other."""

import math

import pytest
import torch
import torch.nn.functional as F

from playground.training import cross_entropy
from playground.training.cross_entropy import linear_cross_entropy
from playground.training.objectives.base import Losses
from playground.training.objectives.n_token import NToken, n_token_losses, per_head_loss
from tasks.base import Batch
from tests.cases import FUTURE_HEADS, TYPE_OPTIONS, make_batch, random_tokens, small_model


def backward(loss, model, batch) -> torch.Tensor:
    """The losses of all offsets; the gradients are in the parameters then."""
    found: Losses = loss(model, batch, None)
    found.total.backward()
    assert found.total.item() == pytest.approx(found.each.sum().item())
    return found.each[0]


def _masks() -> dict[str, Batch]:
    tokens = random_tokens(rows=4)
    generator = torch.Generator().manual_seed(1)
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, -1]]).repeat(4, 1)
    return {
        "everything": make_batch(tokens),
        "random targets": make_batch(tokens, loss_mask=torch.rand(4, 12, generator=generator) > 0.5),
        "documents and padding": make_batch(tokens, documents=documents, loss_mask=documents >= 0),
        "one row without targets": make_batch(
            tokens, loss_mask=torch.tensor([True, False, True, True])[:, None].repeat(1, 12)
        ),
        "last token only": make_batch(tokens, loss_mask=F.one_hot(torch.full((4,), 11), 12).bool()),
        "no target at all": make_batch(tokens, loss_mask=torch.zeros(4, 12, dtype=torch.bool)),
    }


@pytest.mark.parametrize("mask", _masks())
@pytest.mark.parametrize("n_future", [1, 2, 4, 8])
def test_head_by_head_gradients_equal_one_graph(n_future, mask):
    model, batch = small_model(n_layers=9, n_future=n_future), _masks()[mask]
    results = []
    for loss in (NToken().one_graph, per_head_loss):
        model.zero_grad()
        results.append((backward(loss, model, batch), [p.grad for p in model.parameters()]))
    (plain_losses, plain), (losses, gradients) = results
    assert losses.shape == (n_future,)
    torch.testing.assert_close(losses, plain_losses)
    for ours, theirs in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", _masks())
def test_head_by_head_gradients_are_the_same_function_in_double_precision(mask):
    model, batch = small_model(n_layers=5, n_future=4).double(), _masks()[mask]
    results = []
    for loss in (NToken().one_graph, per_head_loss):
        model.zero_grad()
        backward(loss, model, batch)
        results.append([p.grad for p in model.parameters()])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("mask", _masks())
def test_losses_equal_a_loop_over_positions(mask):
    model, batch = small_model(n_layers=4, n_future=3), _masks()[mask]
    losses = n_token_losses(model, batch)[0]
    log_p = model(batch.tokens, (1, 2, 3)).log_softmax(-1)
    for offset in (1, 2, 3):
        terms = [
            -log_p[row, t, offset - 1, batch.tokens[row, t + offset]].item()
            for row in range(4)
            for t in range(12 - offset)
            if batch.loss_mask[row, t + offset] and batch.documents[row, t] == batch.documents[row, t + offset] >= 0
        ]
        expected = sum(terms) / len(terms) if terms else 0.0
        assert losses[offset - 1].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_future", [1, 2, 3, 4])
@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
def test_both_backwards_have_equal_gradients_for_every_type(options, n_future):
    model, results = small_model(n_layers=5, n_future=n_future, **options).double(), []
    for loss in (NToken().one_graph, per_head_loss):
        model.zero_grad()
        results.append((backward(loss, model, _masks()["documents and padding"]), [p.grad for p in model.parameters()]))
    (plain_losses, plain), (losses, gradients) = results
    torch.testing.assert_close(losses, plain_losses, rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_the_logits_of_one_head_are_made_at_a_time(kind, monkeypatch):
    """And each module runs once."""
    model, events = small_model(n_layers=5, n_future=3, future_heads=kind), []

    def watched(stream, *args, **options):
        events.append("logits")
        stream.register_hook(lambda _: events.append("gradient"))
        return linear_cross_entropy(stream, *args, **options)

    monkeypatch.setattr("playground.training.objectives.n_token.linear_cross_entropy", watched)
    for index, head in enumerate(model.future_heads):
        head.register_forward_hook(lambda *_, index=index: events.append(index))
    backward(per_head_loss, model, make_batch(random_tokens()))
    assert [event for event in events if isinstance(event, str)] == ["logits", "gradient"] * 3
    assert sorted(event for event in events if isinstance(event, int)) == [0, 1, 2]


def test_gradients_add_up_over_calls():
    model, batch = small_model(n_future=2), make_batch(random_tokens())
    backward(per_head_loss, model, batch)
    once = model.W_E.grad.clone()
    backward(per_head_loss, model, batch)
    torch.testing.assert_close(model.W_E.grad, 2 * once)


def test_every_offset_reaches_the_trunk_and_only_its_own_head():
    model = small_model(n_layers=4, n_future=3)
    tokens = random_tokens()
    losses = n_token_losses(model, make_batch(tokens))[0]
    for offset in (1, 2, 3):
        model.zero_grad()
        losses[offset - 1].backward(retain_graph=True)
        assert model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
        for other in (1, 2, 3):
            gradient = model.future_heads[other - 1].attn.qkv.weight.grad
            assert (gradient is not None and gradient.abs().sum() > 0) == (other == offset)


def test_a_fresh_model_starts_near_the_uniform_loss():
    losses = n_token_losses(small_model(n_future=2), make_batch(random_tokens(rows=64)))[0]
    assert all(abs(loss - math.log(11)) < 1.0 for loss in losses.tolist())


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_a_part_without_weight_has_no_graph(kind, chunked, monkeypatch):
    """Its loss is the same number, no logits are differentiated, and the gradients are those of the other parts."""
    model, batch, found = small_model(n_layers=5, n_future=3, future_heads=kind), make_batch(random_tokens()), []
    if chunked:
        monkeypatch.setattr(cross_entropy, "WHOLE", 0)

    def watched(*args, **options):
        found.append(linear_cross_entropy(*args, **options))
        return found[-1]

    monkeypatch.setattr("playground.training.objectives.n_token.linear_cross_entropy", watched)
    losses = per_head_loss(model, batch, None, (None, 0.5, None))
    losses.total.backward()
    assert [loss.requires_grad for loss in found] == [False, True, False]
    ours = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    plain = NToken().one_graph(model, batch, None, (None, 0.5, None))
    plain.total.backward()
    assert torch.equal(losses.each, per_head_loss(model, batch).each)
    for parameter, grad in zip(model.parameters(), ours, strict=True):
        wanted = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        torch.testing.assert_close(torch.zeros_like(parameter) if grad is None else grad, wanted)


def test_a_loss_in_chunks_without_a_graph_computes_no_gradient(monkeypatch):
    stream, weight = torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 5, 3, requires_grad=True)
    products = []
    monkeypatch.setattr(
        cross_entropy, "_product", lambda left, right: products.append(left.shape) or (left[0] @ right[0])[None]
    )
    for graph, count in ((True, 3), (False, 1)):
        products.clear()
        with torch.set_grad_enabled(graph):
            linear_cross_entropy(stream, weight, torch.zeros(1, 4, dtype=torch.long), chunk=4)
        assert len(products) == count
