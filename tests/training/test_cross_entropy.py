"""The chunked cross-entropy and its gradients against torch's plain ones."""

import pytest
import torch
import torch.nn.functional as F

from playground.training import cross_entropy
from playground.training.cross_entropy import fused_cross_entropy, linear_cross_entropy
from playground.training.objectives.n_token import NToken, per_head_loss
from tasks.targets import IGNORED
from tests.cases import make_batch, random_tokens, small_model


def case(replicas: int, positions: int = 13, d_model: int = 6, d_vocab: int = 7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(replicas)
    stream = torch.randn(replicas, positions, d_model, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(replicas, d_vocab, d_model, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(d_vocab, (replicas, positions), generator=generator)
    targets[:, ::3] = IGNORED
    return stream, weight, targets


def plain(stream, weight, targets):
    losses = [
        F.cross_entropy(F.linear(x, w), t, ignore_index=IGNORED, reduction="sum")
        for x, w, t in zip(stream, weight, targets, strict=True)
    ]
    return torch.stack(losses)


@pytest.mark.parametrize("chunk", [None, 1, 4, 13, 100])
@pytest.mark.parametrize("replicas", [1, 3])
def test_loss_and_gradients_are_those_of_whole_logits(replicas, chunk):
    stream, weight, targets = case(replicas)
    scale = torch.linspace(0.5, 2, replicas, dtype=torch.float64)
    expected = plain(stream, weight, targets)
    slopes = torch.autograd.grad((scale * expected).sum(), (stream, weight))
    loss = linear_cross_entropy(stream, weight, targets, chunk=chunk)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(torch.autograd.grad((scale * loss).sum(), (stream, weight)), slopes, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("unit", [False, True])
def test_a_scale_for_each_replica(unit, chunk):
    stream, weight, targets = case(3)
    scale = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    expected = scale * plain(stream, weight, targets)
    slopes = torch.autograd.grad(expected.sum(), (stream, weight))
    loss = linear_cross_entropy(stream, weight, targets, scale, chunk=chunk, unit=unit)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(torch.autograd.grad(loss.sum(), (stream, weight)), slopes, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="this torch has none of its own")
def test_equal_to_torchs_own():
    stream, weight, targets = case(1)
    expected = F.linear_cross_entropy(stream[0], weight[0], targets[0], reduction="sum", ignore_index=IGNORED)
    torch.testing.assert_close(linear_cross_entropy(stream, weight, targets, chunk=4)[0], expected)


def test_nothing_but_ignored_targets_is_no_loss_and_no_slope():
    stream, weight, targets = case(2)
    loss = linear_cross_entropy(stream, weight, torch.full_like(targets, IGNORED), chunk=4)
    slopes = torch.autograd.grad(loss.sum(), (stream, weight))
    assert loss.tolist() == [0, 0] and all(slope.abs().sum() == 0 for slope in slopes)


@pytest.mark.parametrize("needed", [0, 1])
def test_only_the_gradients_that_are_needed_are_found(needed):
    stream, weight, targets = case(1)
    (stream, weight)[1 - needed].requires_grad_(False)
    expected = torch.autograd.grad(plain(stream, weight, targets).sum(), (stream, weight)[needed])
    loss = linear_cross_entropy(stream, weight, targets, chunk=4).sum()
    torch.testing.assert_close(torch.autograd.grad(loss, (stream, weight)[needed]), expected)


def test_gradients_are_handed_out_once():
    loss = linear_cross_entropy(*case(1), chunk=4).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        loss.backward()
    total = per_head_loss(small_model(n_future=2), make_batch(random_tokens()), None).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        total.backward()


def test_under_autocast_products_are_in_half_precision_and_the_softmax_is_not():
    stream, weight, targets = case(1, positions=64, d_model=32, dtype=torch.float32)
    exact = plain(stream, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(stream, weight, targets, chunk=10)
    slopes = torch.autograd.grad(loss.sum(), (stream, weight))
    assert loss.dtype == torch.float32 and all(slope.dtype == torch.float32 for slope in slopes)
    torch.testing.assert_close(loss, exact, rtol=1e-2, atol=0)
    for ours, theirs in zip(slopes, torch.autograd.grad(exact.sum(), (stream, weight)), strict=True):
        assert (ours - theirs).norm() < 2e-2 * theirs.norm()


def test_large_logits_are_chunked_by_themselves(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WHOLE", 20)
    monkeypatch.setattr(cross_entropy, "CHUNK", {"cpu": 14})
    sizes, product = [], cross_entropy._product

    def watched(left, right):
        found = product(left, right)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(cross_entropy, "_product", watched)
    stream, weight, targets = case(1)
    torch.testing.assert_close(linear_cross_entropy(stream, weight, targets), plain(stream, weight, targets))
    assert max(size for size in sizes if size != weight.numel()) <= 14


@pytest.mark.parametrize("loss", [NToken().one_graph, per_head_loss])
def test_the_n_token_loss_with_chunks_has_the_same_gradients(loss, monkeypatch):
    batch, results = make_batch(random_tokens(rows=4)), []
    for whole in (2**23, 0):
        monkeypatch.setattr(cross_entropy, "WHOLE", whole)
        monkeypatch.setattr(cross_entropy, "CHUNK", {"cpu": 40})
        model = small_model(n_layers=5, n_future=3).double()
        found = loss(model, batch, None)
        found.total.backward()
        results.append([found.each, *(parameter.grad for parameter in model.parameters())])
    for plainly, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plainly, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("d_vocab", [1160, 1163, 5])
@pytest.mark.parametrize("replicas", [1, 3])
def test_long_rows_are_summed_in_parts(replicas, d_vocab):
    stream, weight, targets = case(replicas, d_vocab=d_vocab)
    logits = (stream @ weight.transpose(1, 2)).detach() * 50
    scale = torch.linspace(0.5, 2, replicas, dtype=torch.float64)
    loss, slope = cross_entropy._loss_and_slope(logits, targets, scale)
    ours, log_sum = cross_entropy._loss_of_long_rows(logits, targets, scale)
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cross_entropy._slope(logits, targets, scale, log_sum), slope, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("d_vocab", [501, 1160, 1163])
@pytest.mark.parametrize("replicas", [1, 3])
def test_fused_on_a_gpu_as_plainly(replicas, d_vocab):
    stream, weight, targets = (
        tensor.detach().cuda()
        for tensor in case(replicas, positions=300, d_model=32, d_vocab=d_vocab, dtype=torch.float32)
    )
    results = []
    for context in (fused_cross_entropy(), torch.no_grad()):
        one, other = stream.clone().requires_grad_(), weight.clone().requires_grad_()
        if isinstance(context, torch.no_grad):
            loss = plain(one, other, targets)
        else:
            with context:
                loss = linear_cross_entropy(one, other, targets, chunk=128)
        results.append([loss.detach(), *torch.autograd.grad(loss.sum(), (one, other))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
