"""Copying scores of hand-built heads, against the whole d_vocab x d_vocab circuit, and at chance for random heads."""

import numpy as np
import pytest
import torch

from playground.model.transformer import MTPTransformer
from playground.probes import copying as module
from playground.probes.copying import copying, eigenvalue_score, largest_columns, top1_scores
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


@pytest.mark.parametrize(
    ("signs", "eigenvalues", "top1"),
    [
        ((1, 1), 1.0, 1.0),
        ((-1, 1), -1.0, 0.0),
        ((-1, -1), 1.0, 1.0),  # suppressing what suppresses
    ],
)
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
        (found.direct_eigenvalues, 0),
        (found.through_eigenvalues, 0),
        (found.direct_top1, 1 / 50),
        (found.through_top1, 1 / 50),
    ):
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
def test_rows_taken_in_parts_equal_the_whole(monkeypatch, most_entries):
    monkeypatch.setattr(module, "MOST_ENTRIES", most_entries)
    generator, tokens = torch.Generator().manual_seed(0), torch.arange(100)
    left, right = (torch.randn(100, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    for mixed in (right, left, left + 0.5 * right):  # from chance to about half of all rows
        largest = (left @ mixed.T).argmax(dim=1)
        assert torch.equal(largest_columns(left, mixed.T), largest)
        orders = torch.stack([tokens, tokens.roll(1), largest])
        expected = [(largest == order).double().mean().item() for order in orders]
        assert top1_scores(left, mixed.T, orders).tolist() == expected and expected[2] == 1.0
    model = small_model(n_layers=4, n_future=2)
    found = copying(model)
    monkeypatch.setattr(module, "MOST_ENTRIES", 1 << 22)
    for name, values in vars(copying(model)).items():
        if isinstance(values, np.ndarray):
            np.testing.assert_allclose(getattr(found, name), values, atol=1e-12, err_msg=name)


def test_a_tie_is_no_copying():
    assert top1_scores(torch.ones(5, 1), torch.ones(1, 5), torch.arange(5)[None]) == [0.0]


# --- null bands -----------------------------------------------------------------------------------------------------

SCORES = ("direct_eigenvalues", "direct_top1", "through_eigenvalues", "through_top1")


def test_random_heads_exceed_their_bands_in_one_of_a_hundred():
    """Their eigenvalue scores spread far: with d_head 16 one of a hundred is above 0.2. Equal shares of tokens do not exceed."""
    above, values = {name: [] for name in SCORES}, []
    config = small_model(d_model=64, n_heads=4, n_layers=3, n_future=1, d_vocab=40, normalization="RMS").config
    for seed in range(8):
        model = MTPTransformer(config, torch.Generator().manual_seed(seed))
        found = copying(model, torch.Generator().manual_seed(100 + seed))
        values.append(found.direct_eigenvalues)
        for name in SCORES:
            own, band = getattr(found, name), getattr(found, f"{name}_null")
            above[name].append((own > band)[np.isfinite(own)])
    assert np.quantile(values, 0.99) > 0.2
    shares = {name: np.mean(np.concatenate(parts)) for name, parts in above.items()}
    assert 0.003 < shares["through_eigenvalues"] < 0.03 and shares["direct_eigenvalues"] < 0.03
    assert shares["direct_top1"] < 0.015 and shares["through_top1"] < 0.015


def test_heads_that_copy_are_far_above_their_bands():
    model = induction_model(noise=0)
    one = torch.eye(32)
    with torch.no_grad():
        set_head(model.blocks[0].attn, 2, v={TOKEN: one}, o={BACK: one})
        set_head(model.future_heads[0].attn, 1, v={BACK: one}, o={PREDICTION: one})
    found = copying(model)
    i, (a, f) = found.heads.index(induction_head()), (2, 1)
    assert found.direct_eigenvalues[i] == pytest.approx(1) and found.direct_eigenvalues_null[i] < 0.5
    assert found.direct_top1[i] == 1.0 and found.direct_top1_null[i] <= 5 / 32
    assert found.through_eigenvalues[a, f] == pytest.approx(1) and found.through_eigenvalues_null[a, f] < 0.5
    assert found.through_top1[a, f] == 1.0 and found.through_top1_null[a, f] <= 5 / 32
    line = next(row for row in found.rows() if row["path"] == f"{induction_head()} -> unembed")
    assert line["eigenvalue null 99%"] == found.direct_eigenvalues_null[i]
    assert line["top-1 null 99%"] == found.direct_top1_null[i]


def test_bands_equal_those_of_whole_circuits_with_permuted_columns():
    model = small_model(n_layers=3, n_future=1, normalization="LN")
    w, found = head_weights(model), copying(model, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    orders = [torch.randperm(len(w.W_E), generator=generator) for _ in range(199)]
    direct = w.W_E @ w.W_V[1] @ w.W_O[1] @ w.W_U
    through = w.W_E @ w.W_V[1] @ w.W_O[1] @ w.W_V[-1] @ w.W_O[-1] @ w.W_U
    for kind, matrix, place in (("direct", direct, (1,)), ("through", through, (1, -1))):
        slow = sorted(_slow_scores(matrix[:, order]) for order in orders)
        assert getattr(found, f"{kind}_eigenvalues_null")[place] == pytest.approx(slow[-2][0], abs=1e-9)
        assert getattr(found, f"{kind}_top1_null")[place] == sorted(top1 for _, top1 in slow)[-2]
    assert np.array_equal(copying(model).direct_top1_null, copying(model).direct_top1_null)


def test_what_was_stored_before_has_no_bands():
    stored = {name: value for name, value in copying(small_model()).to_dict().items() if not name.endswith("_null")}
    before = Copying.from_dict(stored)
    assert before.direct_top1_null is None and np.isnan([row["top-1 null 99%"] for row in before.rows()]).all()
    assert Copying.from_dict(before.to_dict()).through_eigenvalues_null is None


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[2.0, 0.0], [0.0, 3.0]], 1.0),
        ([[-1.0, 0.0], [0.0, -5.0]], -1.0),
        ([[3.0, 0.0], [0.0, -1.0]], 0.5),
        ([[0.0, 1.0], [-1.0, 0.0]], 0.0),
        ([[0.0, 0.0], [0.0, 0.0]], 0.0),
        ([[float("nan"), 0.0], [0.0, 1.0]], float("nan")),
        ([[float("inf"), 0.0], [0.0, 1.0]], float("nan")),
    ],
)
def test_eigenvalue_scores_of_small_matrices(matrix, expected):
    assert eigenvalue_score(torch.tensor([matrix])) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_a_model_that_diverged_reads_nan():
    model = small_model()
    with torch.no_grad():
        model.blocks[0].attn.out.weight.fill_(float("nan"))
    found = copying(model)
    assert np.isnan(found.direct_eigenvalues[:2]).all() and np.isnan(found.direct_top1[:2]).all()
    assert np.isfinite(found.direct_eigenvalues[2:]).all() and np.isfinite(found.direct_top1[2:]).all()
    for band in (found.direct_eigenvalues_null, found.direct_top1_null):
        assert np.isnan(band[:2]).all() and np.isfinite(band[2:]).all()


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
