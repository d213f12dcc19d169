"""Shares and cosines against one graph, and in cases with a known answer."""

import numpy as np
import pytest
import torch

from playground.probes.gradients import gradient_shares
from playground.training.objectives.n_token import n_token_losses
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_against_one_graph(options):
    """The whole model differentiated loss by loss, with z inside the graph."""
    model, batch = small_model(n_layers=5, n_future=3, **options), make_batch(random_tokens(rows=4))
    result = gradient_shares(model, batch)
    kept = []

    def keep(z, hook):
        kept.append(z)

    with model.hooks(fwd_hooks=[("hook_trunk", keep)]):
        losses = n_token_losses(model, batch)[0]
    gradients = [torch.autograd.grad(loss, kept[0], retain_graph=True)[0].flatten() for loss in losses]
    (whole,) = torch.autograd.grad(losses.sum(), kept[0])
    assert result.loss == pytest.approx(losses.detach().numpy(), rel=1e-5)
    for k in range(3):
        assert result.share[k] == pytest.approx((gradients[k].norm() / whole.norm()).item(), rel=1e-4)
        for j in range(3):
            cosine = torch.cosine_similarity(gradients[j], gradients[k], dim=0).item()
            assert result.cosine[j, k] == pytest.approx(cosine, abs=1e-5)


def test_one_offset_is_the_whole_gradient():
    result = gradient_shares(small_model(), make_batch(random_tokens()))
    assert result.share == pytest.approx([1.0])
    assert result.cosine == pytest.approx(np.ones((1, 1)))


def test_equal_heads_with_equal_targets_share_alike():
    """On rows of one token a copied future head wants what the first one wants, but for the last position."""
    model = small_model(n_future=2)
    model.future_heads[1].load_state_dict(model.future_heads[0].state_dict())
    result = gradient_shares(model, make_batch(torch.arange(5)[:, None].expand(-1, 12)))
    assert result.cosine[0, 1] > 0.95
    assert result.share == pytest.approx([0.5, 0.5], abs=0.03)


def test_opposed_gradients_have_shares_above_one():
    """Future heads that pass z on, and two tokens that take turns: what one offset calls for the other one forbids."""
    model = small_model(n_layers=1, control="trunk", n_future=2, d_vocab=2)
    with torch.no_grad():
        for head in model.future_heads:
            for parameter in head.parameters():
                parameter.zero_()
        model.unembed.weight.mul_(1e-3)  # both tokens are about as likely
    result = gradient_shares(model, make_batch(torch.tensor([[0, 1] * 6])))
    assert result.cosine[0, 1] < -0.9
    assert (result.share > 1).all()


def test_an_offset_without_targets_has_no_share():
    batch = make_batch(random_tokens(), documents=torch.arange(6).repeat_interleave(2).expand(3, -1))
    result = gradient_shares(small_model(n_future=2), batch)
    assert result.share == pytest.approx([1.0, 0.0])
    assert np.isfinite(result.loss[0]) and np.isnan(result.loss[1])
    assert np.isnan(result.cosine[1]).all()


def test_eight_offsets_on_a_trunk_without_layers():
    model = small_model(n_layers=1, control="trunk", n_future=8)
    result = gradient_shares(model, make_batch(random_tokens()))
    assert result.share.shape == (8,) and result.cosine.shape == (8, 8)
    assert np.diag(result.cosine) == pytest.approx(np.ones(8))
    assert np.allclose(result.cosine, result.cosine.T)
    assert len(result.rows()) == 8


@pytest.mark.parametrize("trainable", [True, False])
def test_no_trace_is_left(trainable):
    model = small_model(n_layers=4, n_future=2).train().requires_grad_(trainable)
    with leaves_no_trace(model):
        gradient_shares(model, make_batch(random_tokens()))
    with torch.no_grad():
        gradient_shares(model, make_batch(random_tokens()))


@pytest.mark.parametrize("kind", [kind for kind in FUTURE_HEADS if kind != "anticausal"])
def test_offsets_that_send_nothing_back_have_no_share(kind):
    model = small_model(n_layers=4, n_future=3, control="detached", future_heads=kind)
    found = gradient_shares(model, make_batch(random_tokens()))
    assert found.share.tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert (
        np.isfinite(found.loss).all()
        and found.cosine[0, 0] == pytest.approx(1.0)
        and np.isnan(found.cosine[0, 1:]).all()
    )
