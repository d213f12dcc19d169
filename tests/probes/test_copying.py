"""Copying scores of hand-built heads, against the whole d_vocab x d_vocab circuit, and at chance for random heads."""

import numpy as np
import pytest
import torch

from playground.probes import copying as module
from playground.probes.copying import copying, eigenvalue_score, top1_on_diagonal
from playground.probes.weights import head_weights
from playground.results import Copying, Head
from tests.cases import MODEL_OPTIONS, random_tokens, small_model
from tests.handmade import BACK, PREDICTION, TOKEN, back_head, induction_head, induction_model, set_head


def _direct(found, head):
    i = found.heads.index(head)
    return found.direct_eigenvalues[i], found.direct_top1[i]


def _through(found, head, via):
    i, j = found.heads.index(head), found.via.index(via)
    return found.through_eigenvalues[i, j], found.through_top1[i, j]


@pytest.mark.parametrize(("sign", "eigenvalues", "top1"), [(1, 1.0, 1.0), (-1, -1.0, 0.0)])
def test_a_hand_built_head_copies_or_suppresses_directly(sign, eigenvalues, top1):
    model = induction_model(noise=0)
    one = torch.eye(32)
    with torch.no_grad():
        set_head(model.blocks[0].attn, 2, v={TOKEN: one}, o={PREDICTION: sign * one})
    assert _direct(copying(model), Head("blocks.0", 2)) == pytest.approx((eigenvalues, top1))


@pytest.mark.parametrize(("signs", "eigenvalues", "top1"), [
    ((1, 1), 1.0, 1.0), ((-1, 1), -1.0, 0.0), ((-1, -1), 1.0, 1.0),  # suppressing what suppresses
])  # fmt: skip
def test_two_heads_copy_together_through_a_future_head(signs, eigenvalues, top1):
    """The trunk head alone copies nothing: what it writes, only the future head's head makes into logits."""
    model = induction_model(noise=0)
    one = torch.eye(32)
    with torch.no_grad():
        set_head(model.blocks[0].attn, 2, v={TOKEN: one}, o={BACK: signs[0] * one})
        set_head(model.future_heads[0].attn, 1, v={BACK: one}, o={PREDICTION: signs[1] * one})
    found, head, via = copying(model), Head("blocks.0", 2), Head("future_heads.0", 1)
    assert _through(found, head, via) == pytest.approx((eigenvalues, top1))
    assert _direct(found, head) == _direct(found, via) == (0.0, 0.0)


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_of_the_induction_circuit_the_induction_heads_copy_and_the_others_do_not(normalization):
    found = copying(induction_model(2, normalization=normalization))
    for k in (1, 2):
        assert _direct(found, induction_head(k)) == pytest.approx((1.0, 1.0), abs=1e-4)
        assert _direct(found, back_head(k))[1] < 0.2
        if (
            normalization == "RMS"
        ):  # LayerNorm takes the mean of what is written from all logits alike, an eigenvalue below 0
            assert abs(_direct(found, back_head(k))[0]) < 0.3
    assert np.nanmax(found.through_top1) < 0.3 and found.chance_top1 == 1 / 32


def test_a_head_that_permutes_tokens_has_mixed_eigenvalues_and_copies_none():
    model = induction_model(noise=0)
    with torch.no_grad():
        set_head(model.blocks[0].attn, 2, v={TOKEN: torch.eye(32)}, o={PREDICTION: torch.eye(32).roll(1, dims=1)})
    assert _direct(copying(model), Head("blocks.0", 2)) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
def test_random_heads_are_at_chance(normalization):
    model = small_model(d_model=64, n_heads=8, n_layers=4, n_future=2, d_vocab=50, normalization=normalization)
    found = copying(model)
    for values, expected in (
        (found.direct_eigenvalues, 0), (found.through_eigenvalues, 0), (found.direct_top1, 1 / 50), (found.through_top1, 1 / 50),
    ):  # fmt: skip
        finite = values[np.isfinite(values)]
        assert abs(finite.mean() - expected) < 4 * finite.std() / np.sqrt(len(finite)) + 1e-3


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_scores_equal_those_of_the_whole_circuit(options):
    """The small matrix has the eigenvalues of the d_vocab x d_vocab one, and the rows that are left out had lost."""
    model = small_model(**options, n_layers=4, n_future=2)
    w, found = head_weights(model), copying(model)
    assert found.heads == w.heads and found.via == w.heads[4:]
    for i, head in enumerate(w.heads):
        matrix = w.W_E @ w.W_V[i] @ w.W_O[i] @ w.W_U
        assert _direct(found, head) == pytest.approx(_slow_scores(matrix), abs=1e-9)
        for j, via in enumerate(found.via, start=4):
            if i >= 4:
                assert np.isnan(_through(found, head, via)).all()
                continue
            matrix = w.W_E @ w.W_V[i] @ w.W_O[i] @ w.W_V[j] @ w.W_O[j] @ w.W_U
            assert _through(found, head, via) == pytest.approx(_slow_scores(matrix), abs=1e-9)


def _slow_scores(matrix):
    """Both scores of the explicit matrix, eigenvalue by eigenvalue and row by row."""
    values = np.linalg.eigvals(matrix.numpy())
    right = sum(int(row.argmax()) == token for token, row in enumerate(matrix))
    return sum(value.real for value in values) / sum(abs(value) for value in values), right / len(matrix)


@pytest.mark.parametrize("most_entries", [1, 30, 101, 5000, 1 << 22])
@pytest.mark.parametrize("first", [1, 7, 64, 1000])
def test_rows_taken_in_parts_equal_the_whole(monkeypatch, most_entries, first):
    monkeypatch.setattr(module, "MOST_ENTRIES", most_entries)
    monkeypatch.setattr(module, "FIRST_COLUMNS", first)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(100, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    for mixed in (right, left, left + 0.5 * right):  # from chance to about half of all rows
        matrix = left @ mixed.T
        expected = (matrix.argmax(dim=1) == torch.arange(100)).double().mean().item()
        assert top1_on_diagonal(left, mixed.T) == expected
    assert top1_on_diagonal(torch.eye(100), torch.eye(100)) == 1.0


def test_a_tie_is_no_copying():
    assert top1_on_diagonal(torch.ones(5, 1), torch.ones(1, 5)) == 0.0


@pytest.mark.parametrize(("matrix", "expected"), [
    ([[2.0, 0.0], [0.0, 3.0]], 1.0), ([[-1.0, 0.0], [0.0, -5.0]], -1.0), ([[3.0, 0.0], [0.0, -1.0]], 0.5),
    ([[0.0, 1.0], [-1.0, 0.0]], 0.0), ([[0.0, 0.0], [0.0, 0.0]], 0.0), ([[float("nan"), 0.0], [0.0, 1.0]], float("nan")),
    ([[float("inf"), 0.0], [0.0, 1.0]], float("nan")),
])  # fmt: skip
def test_eigenvalue_scores_of_small_matrices(matrix, expected):
    assert eigenvalue_score(torch.tensor([matrix])) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_a_model_that_diverged_reads_nan():
    model = small_model()
    with torch.no_grad():
        model.blocks[0].attn.out.weight.fill_(float("nan"))
    found = copying(model)
    assert np.isnan(found.direct_eigenvalues[:2]).all() and np.isnan(found.direct_top1[:2]).all()
    assert np.isfinite(found.direct_eigenvalues[2:]).all() and np.isfinite(found.direct_top1[2:]).all()


@pytest.mark.parametrize("n_future", [1, 3])
def test_a_trunk_without_layers_has_no_paths_through(n_future):
    found = copying(small_model(n_layers=1, n_future=n_future, control="trunk"))
    assert len(found.heads) == len(found.via) == 2 * n_future
    assert np.isnan(found.through_top1).all() and len(found.rows()) == 2 * n_future
    assert Copying.from_dict(found.to_dict()).heads == found.heads


def test_it_leaves_no_trace():
    model, tokens = small_model(n_future=2).train(), random_tokens()
    before = model(tokens)
    copying(model)
    assert model.training and torch.equal(model(tokens), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(point.fwd_hooks for point in model.hook_points())
