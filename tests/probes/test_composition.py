"""Composition against explicit matrices, at chance for random heads, and far above it for a hand-built pair."""

import numpy as np
import pytest
import torch

from playground.model.transformer import MTPTransformer
from playground.probes import composition as module
from playground.probes.composition import (
    RANDOM_PAIRS,
    SEED,
    CompositionProbe,
    composition,
    path_norms,
    product_norm,
    random_value,
    rotated_bands,
    squared_corners,
    squared_spectra,
)
from playground.probes.null_band import DRAWS
from playground.probes.weights import block_of, head_weights
from playground.results import Composition, Head
from tasks.base import seeded_generator
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
def test_the_random_value_equals_a_slow_loop(d_model, d_head):
    generator = torch.Generator().manual_seed(SEED)
    norm, values = torch.linalg.matrix_norm, []
    for _ in range(RANDOM_PAIRS):
        V, O, reads, other = torch.randn(4, d_model, d_head, generator=generator, dtype=torch.float64)
        values.append((norm(V @ O.T @ reads @ other.T) / (norm(V @ O.T) * norm(reads @ other.T))).item())
    mean = random_value(d_model, d_head)
    assert mean == pytest.approx(np.mean(values))
    assert mean == pytest.approx(1 / np.sqrt(d_model), rel=0.05)


# --- the null bands -------------------------------------------------------------------------------------------------


def low_rank_heads(d_model, d_head, count, seed):
    """W_V, W_O^T, W_Q and W_K of heads without any relation, whose singular values fall as 1, 1/2, 1/3, .."""
    shape = (4, count, d_model, d_head)
    bases, _ = torch.linalg.qr(torch.randn(shape, generator=seeded_generator(seed), dtype=torch.float64))
    return bases / torch.arange(1, d_head + 1)


def spectra_of(left, right):
    return squared_spectra((left.mT @ left).numpy(), (right.mT @ right).numpy())


@pytest.mark.parametrize(("d_model", "d_head", "count"), [(64, 16, 40), (128, 32, 40), (512, 64, 20)])
def test_heads_without_relation_exceed_their_band_in_one_of_a_hundred_draws(d_model, d_head, count):
    """The band of full-rank random matrices, which was the null before, they exceed in 26 to 31 of a hundred."""
    V, O, K, Q = low_rank_heads(d_model, d_head, count, seed=0)
    score = path_norms(V, O.mT, K, Q) / (product_norm(V, O)[:, None] * product_norm(K, Q))
    above, largest = [], []
    for number, group in enumerate(torch.arange(count).split(5)):
        corners = squared_corners(d_model, d_head, 5, seeded_generator(1 + number))
        later = np.ones((5, count), dtype=bool)
        pairs, strongest = rotated_bands(spectra_of(V[group], O[group]), spectra_of(K, Q), corners, later)
        above.append(score[group].numpy() > pairs)
        largest.append(score[group].numpy().max(axis=0) > strongest)
    assert 0.003 < np.mean(above) < 0.03
    assert np.mean(largest) < 0.03


def test_bands_equal_those_of_explicit_rotations_of_the_two_matrices():
    """The second of 199 draws of |OV R QK^T|, as d_model x d_model matrices and with other rotations."""
    V, O, K, Q = low_rank_heads(32, 8, 3, seed=2)
    draws, norm = 3000, torch.linalg.matrix_norm
    rotations, _ = torch.linalg.qr(torch.randn(draws, 32, 32, generator=seeded_generator(3), dtype=torch.float64))
    bands = [
        rotated_bands(
            spectra_of(V, O), spectra_of(K, Q), squared_corners(32, 8, 3, seeded_generator(seed)), np.ones((3, 3), bool)
        )
        for seed in range(20)
    ]
    pairs, strongest = (np.mean([band[which] for band in bands], axis=0) for which in (0, 1))
    for j in range(3):
        drawn = torch.stack(
            [
                norm(V[i] @ O[i].T @ rotations.roll(i, dims=0) @ K[j] @ Q[j].T)
                / (norm(V[i] @ O[i].T) * norm(K[j] @ Q[j].T))
                for i in range(3)
            ]
        )
        assert pairs[:, j] == pytest.approx(drawn.quantile(0.99, dim=1).numpy(), rel=0.06)
        assert strongest[j] == pytest.approx(drawn.amax(dim=0).quantile(0.99).item(), rel=0.06)


def test_spectra_are_those_of_the_whole_product():
    V, O, _, _ = low_rank_heads(32, 8, 3, seed=4)
    expected = torch.linalg.svdvals(V @ O.mT)[:, :8].square()
    expected = expected / expected.sum(dim=1, keepdim=True)
    assert np.sort(spectra_of(V, O), axis=1)[:, ::-1] == pytest.approx(expected.numpy(), abs=1e-12)
    assert not spectra_of(0 * V, O).any() and np.isnan(spectra_of(V * float("nan"), O)).all()


@pytest.mark.parametrize("d_head", [4, 8, 16])
def test_corners_are_those_of_orthogonal_matrices(d_head):
    """Entries of a random orthogonal matrix have a mean square of 1 / d_model; the whole of one has columns of norm 1."""
    corners = squared_corners(16, d_head, 2, seeded_generator(0))
    assert corners.shape == (2, DRAWS, d_head, d_head) and corners.mean() == pytest.approx(1 / 16, rel=0.02)
    assert corners.sum(axis=2).max() <= 1 + 1e-6
    if d_head == 16:
        assert corners.sum(axis=2) == pytest.approx(1, abs=1e-5)


def test_the_strongest_sender_of_an_untrained_model_exceeds_its_band_in_one_of_a_hundred():
    """The strongest of many exceeds the band of a single pair far more often."""
    config = small_model(d_model=32, n_heads=8, n_layers=3, n_future=1, normalization="RMS").config
    above: dict[str, list[np.ndarray]] = {"of strongest": [], "of a pair": []}
    for generator in range(12):
        probe = CompositionProbe(seeded_generator(generator))
        for seed in range(8):
            found = probe(MTPTransformer(config, seeded_generator(100 * generator + seed)))
            for kind in "qkv":
                values, later = getattr(found, kind), np.isfinite(found.k).any(axis=0)
                largest, bands = np.nanmax(values[:, later], axis=0), found.band_of_strongest(kind)[later]
                above["of strongest"].append(largest > bands)
                above["of a pair"].append((values > found.band(kind)).any(axis=0)[later])
    assert 0.003 < np.mean(above["of strongest"]) < 0.03
    assert np.mean(above["of a pair"]) > 0.06


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_an_untrained_model_is_at_zero_and_below_the_null_in_most_pairs(normalization):
    model = small_model(d_model=64, n_heads=8, n_layers=6, n_future=2, normalization=normalization)
    found = composition(model)
    for kind in "qkv":
        values = getattr(found, kind)
        pairs = values[np.isfinite(values)]
        assert len(pairs) == 8 * 8 * (6 + 4 * 2)  # pairs of trunk layers, and each with both future heads
        assert abs(pairs.mean()) < 0.002 and 0.003 < (values > found.band(kind)).sum() / len(pairs) < 0.03


def test_the_bands_are_drawn_from_the_generator_and_the_same_without_one():
    model = small_model(n_layers=3, n_future=1)
    first, again, other = (composition(model, seeded_generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.band("k"), again.band("k"), equal_nan=True)
    assert not np.array_equal(first.band("k"), other.band("k"), equal_nan=True)
    assert np.array_equal(composition(model).band("v"), composition(model).band("v"), equal_nan=True)
    probe, larger = CompositionProbe(seeded_generator(1)), small_model(d_model=32, n_layers=4)
    probe(larger)  # models of other sizes do not change what is drawn
    assert np.array_equal(probe(model).band("k"), first.band("k"), equal_nan=True)


def test_a_model_that_diverged_has_no_bands_where_it_is_not_finite():
    model = small_model(n_layers=3, n_future=1)
    with torch.no_grad():
        block_of(model, Head("blocks.0", 0)).attn.out.weight[:, :8].fill_(float("nan"))  # head 0 of two
    found = composition(model)
    assert np.isnan(found.band("k")[0]).all() and np.isfinite(found.band("k")[1, 2:]).all()
    assert np.isfinite(found.band_of_strongest("k")[2:]).all() and np.isnan(found.band_of_strongest("k")[:2]).all()


# --- known models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_an_induction_head_reads_the_previous_token_head_as_its_key(normalization):
    found = composition(induction_model(2, normalization=normalization))
    for k in (1, 2):
        pair = back_head(k), induction_head(k)
        i, j = found.senders.index(pair[0]), found.receivers.index(pair[1])
        assert found.pair("k", *pair) > 3 * found.band("k")[i, j]
        assert found.pair("k", *pair) > 2.5 * found.band_of_strongest("k")[j] > 0
        for kind in "qv":
            assert found.pair(kind, *pair) < 0.05 - found.random[0]
        assert found.pair("k", back_head(k), induction_head(3 - k)) < 0
    known = {(back_head(k), induction_head(k)) for k in (1, 2)}
    others = [found.pair("k", a, b) for a in found.senders for b in found.receivers if (a, b) not in known]
    assert np.nanmax(others) < 0.4 * found.pair("k", back_head(), induction_head())


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
    assert np.allclose(found.k[:, 2:], -found.random[1]) and not (found.k > found.band("k")).any()


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
