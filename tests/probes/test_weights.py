"""Folded weights do to the stream what norm and matrix do together, for every option of the model."""

import pytest
import torch

from playground.probes.weights import block_of, check_path, head_weights
from playground.results import Head
from tests.cases import MODEL_OPTIONS, small_model


def _with_norms(**options):
    """A model whose norms have weights (and biases) as if trained."""
    model = small_model(**options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.3 if "weight" in name else 0.5))
    return model


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_folded_weights_are_norm_and_matrix_up_to_the_scale_and_the_bias(options):
    model = _with_norms(**options, n_future=2)
    w = head_weights(model)
    resid = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    for i, head in enumerate(w.heads):
        block = block_of(model, head)
        normed, shift, scale = _parts(block.ln1, resid)
        for name in ("W_Q", "W_K", "W_V"):
            weight = getattr(block.attn, name)[head.index]
            expected = ((normed - shift) * scale) @ weight
            torch.testing.assert_close((resid.double() @ getattr(w, name)[i]).float(), expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(w.W_O[i].float(), block.attn.W_O[head.index])
    normed, shift, scale = _parts(model.ln_final, resid)
    expected = ((normed - shift) * scale) @ model.W_U
    torch.testing.assert_close((resid.double() @ w.W_U).float(), expected, atol=1e-5, rtol=1e-4)


def _parts(norm, resid):
    """What a norm gives, the bias in it, and what it divided by."""
    centred = resid - resid.mean(dim=1, keepdim=True) if norm.centred else resid
    bias = norm.bias if norm.bias is not None else torch.zeros(16)
    return norm(resid), bias, (centred.pow(2).mean(dim=1, keepdim=True) + norm.eps).sqrt()


def test_a_head_writes_what_the_model_writes():
    """The product of folded W_V and W_O is what a head adds to the stream when it attends to one position."""
    model = _with_norms(normalization="RMS", mlp="none", positions="rotary", n_future=1)
    w = head_weights(model)
    token = torch.tensor([[3]])
    added = []
    block_of(model, w.heads[0]).hook_attn_out.add_hook(lambda value, hook: added.append(value.detach()))
    model(token)
    embedded = model.W_E[token[0]].double()
    scale = (embedded.pow(2).mean() + model.config.eps).sqrt()
    first, second = (embedded @ w.W_V[i] @ w.W_O[i] / scale for i in range(2))
    torch.testing.assert_close((first + second).float(), added[0][0])


def test_chosen_heads_come_in_the_order_asked_for():
    model = small_model(n_future=1)
    every = head_weights(model)
    heads = (Head("future_heads.0", 1), Head("blocks.1", 0))
    some = head_weights(model, heads)
    assert some.heads == heads and some.n_trunk == 1 and every.n_trunk == 4
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        assert torch.equal(getattr(some, name), getattr(every, name)[[every.index(head) for head in heads]])
    assert len(head_weights(model, ()).W_Q) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_copies_without_gradients(dtype):
    model = small_model(normalization="LN").to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    w = head_weights(model)
    for name in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U"):
        weights = getattr(w, name)
        assert weights.dtype == torch.float64 and not weights.requires_grad
        weights.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            ("future_heads.0.1", "blocks.0.0"),
            r"blocks\.0\.0 cannot read what future_heads\.0\.1 writes.*upwards: blocks\.0\.0, then",
        ),
        (("blocks.0.0", "blocks.0.1"), r"blocks\.0\.1 cannot read what blocks\.0\.0 writes: both read the same stream"),
        (
            ("blocks.0.0", "future_heads.0.0", "future_heads.1.0"),
            r"one path with future_heads\.0\.0 and one with future_heads\.1\.0",
        ),
        (("blocks.0.0", "blocks.0.0"), "both read the same stream"),
        (("blocks.0.2",), r"no attention head blocks\.0\.2; write one of blocks\.0\.0 to future_heads\.1\.1"),
        (("blocks.1.0",), "no attention head"),
    ],
)
def test_a_path_that_does_not_lead_upwards_is_refused(path, message):
    model = small_model(n_future=2)
    with pytest.raises(ValueError, match=message):
        check_path(model, tuple(Head.parse(name) for name in path))


def test_an_unknown_head_is_refused_everywhere():
    model = small_model()
    with pytest.raises(ValueError, match=r"no attention head future_heads\.3\.0"):
        head_weights(model).index(Head("future_heads.3", 0))
    with pytest.raises(ValueError, match=r"no attention head future_heads\.3\.0"):
        head_weights(model, [Head("future_heads.3", 0)])
