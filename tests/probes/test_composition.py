"""Composition against explicit matrices, at chance for random heads, and far above it for a hand-built pair."""

import numpy as np
import pytest
import torch

from playground.probes import composition as module
from playground.probes.composition import DRAWS, SEED, composition, random_values
from playground.probes.weights import block_of, head_weights
from playground.results import Composition, Head
from tests.cases import MODEL_OPTIONS, random_tokens, small_model
from tests.handmade import back_head, induction_head, induction_model


@pytest.mark.parametrize("options", MODEL_OPTIONS[::3])
def test_every_pair_equals_the_explicit_d_model_by_d_model_matrices(options):
    model = small_model(**options, n_layers=4, n_future=2)
    w, found = head_weights(model), composition(model)
    assert found.senders == w.heads[:4] and found.receivers == w.heads
    norm = torch.linalg.matrix_norm
    ov = [V @ O for V, O in zip(w.W_V, w.W_O, strict=True)]
    qk = [Q @ K.T for Q, K in zip(w.W_Q, w.W_K, strict=True)]
    for i, sender in enumerate(found.senders):
        for j, receiver in enumerate(found.receivers):
            values = [found.pair(kind, sender, receiver) for kind in "qkv"]
            if receiver.layer == "blocks.0" or (sender.layer, receiver.layer) == ("blocks.1", "blocks.1"):
                assert np.isnan(values).all()
                continue
            second = (qk[j], qk[j].T, ov[j])
            explicit = [(norm(ov[i] @ matrix) / (norm(ov[i]) * norm(matrix))).item() for matrix in second]
            assert values == pytest.approx([e - r for e, r in zip(explicit, found.random, strict=True)], abs=1e-12)


def test_pairs_are_the_same_however_many_are_made_at_a_time(monkeypatch):
    model = small_model(n_layers=6, n_future=2)
    whole = composition(model)
    monkeypatch.setattr(module, "PAIRS_SIZE", 3 * len(whole.receivers) * 8 * 8)  # three senders, of eight
    for kind in "qkv":
        np.testing.assert_allclose(getattr(composition(model), kind), getattr(whole, kind), atol=1e-14)


@pytest.mark.parametrize(("d_model", "d_head"), [(16, 8), (32, 8)])
def test_random_values_equal_a_slow_loop(d_model, d_head):
    generator = torch.Generator().manual_seed(SEED)
    norm, values = torch.linalg.matrix_norm, []
    for _ in range(DRAWS):
        V, O, reads, other = torch.randn(4, d_model, d_head, generator=generator, dtype=torch.float64)
        values.append((norm(V @ O.T @ reads @ other.T) / (norm(V @ O.T) * norm(reads @ other.T))).item())
    mean, null = random_values(d_model, d_head)
    assert mean == pytest.approx((np.mean(values),) * 3)
    assert null == pytest.approx((np.quantile(values, 0.99) - np.mean(values),) * 3)
    assert mean[0] == pytest.approx(1 / np.sqrt(d_model), rel=0.05)


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_an_untrained_model_is_at_zero_and_below_the_null_in_most_pairs(normalization):
    model = small_model(d_model=64, n_heads=8, n_layers=6, n_future=2, normalization=normalization)
    found = composition(model)
    for kind, null in zip("qkv", found.null, strict=True):
        values = getattr(found, kind)
        pairs = values[np.isfinite(values)]
        assert len(pairs) == 8 * 8 * (6 + 4 * 2)  # pairs of trunk layers, and each with both future heads
        assert abs(pairs.mean()) < 0.002 and (pairs < null).mean() > 0.95


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_an_induction_head_reads_the_previous_token_head_as_its_key(normalization):
    found = composition(induction_model(2, normalization=normalization))
    for k in (1, 2):
        pair = back_head(k), induction_head(k)
        assert found.pair("k", *pair) > 7 * found.null[1]
        for kind in "qv":
            assert found.pair(kind, *pair) < 0.05 - found.random[0]
        assert found.pair("k", back_head(k), induction_head(3 - k)) < 0
    known = {(back_head(k), induction_head(k)) for k in (1, 2)}
    others = [found.pair("k", a, b) for a in found.senders for b in found.receivers if (a, b) not in known]
    assert np.nanmax(others) < 0.25 * found.pair("k", back_head(), induction_head())


@pytest.mark.parametrize(("d_head_dims", "expected"), [(slice(0, 8), 1 / np.sqrt(8)), (slice(8, 16), 0.0)])
def test_heads_that_share_all_dimensions_or_none(d_head_dims, expected):
    """Identities: |I| / (|I| |I|) is 1 / sqrt(d_head) where the sender writes what the receiver reads, else 0."""
    model = small_model(n_layers=2, n_future=1, normalization="RMS")
    with torch.no_grad():
        writer, reading = (block_of(model, Head(layer, 0)).attn for layer in ("blocks.0", "future_heads.0"))
        writer.qkv.weight[32:40].copy_(torch.eye(8, 16))  # W_V of head 0
        writer.out.weight[:, :8].copy_(torch.eye(16, 8))
        reader = torch.zeros(8, 16)
        reader[:, d_head_dims] = torch.eye(8)
        for start in (0, 16, 32):
            reading.qkv.weight[start : start + 8].copy_(reader)
    found = composition(model)
    for kind, random in zip("qkv", found.random, strict=True):
        value = found.pair(kind, Head("blocks.0", 0), Head("future_heads.0", 0)) + random
        assert value == pytest.approx(expected, abs=1e-7)


def test_heads_that_write_nothing_compose_with_nothing():
    model = small_model(n_layers=2, n_future=1)
    with torch.no_grad():
        model.blocks[0].attn.out.weight.zero_()
    found = composition(model)
    assert np.allclose(found.k[:, 2:], -found.random[1])


@pytest.mark.parametrize("n_future", [1, 3])
def test_a_trunk_without_layers_has_no_senders(n_future):
    model = small_model(n_layers=1, n_future=n_future, control="trunk")
    found = composition(model)
    assert found.senders == () and len(found.receivers) == 2 * n_future
    assert found.q.shape == found.k.shape == found.v.shape == (0, 2 * n_future) and found.rows() == []
    assert Composition.from_dict(found.to_dict()).receivers == found.receivers


def test_it_leaves_no_trace_and_repeats_exactly():
    model, tokens = small_model(n_future=2).train(), random_tokens()
    before = model(tokens)
    first, second = composition(model), composition(model)
    assert np.array_equal(first.k, second.k, equal_nan=True)
    assert model.training and torch.equal(model(tokens), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
