"""Token circuits against explicit products and real forwards, and at their ideal values for hand-built heads."""

import numpy as np
import pytest
import torch

from playground.probes import token_circuits
from playground.probes.copying import copying
from playground.probes.token_circuits import ov_circuit, qk_circuit, token_circuit
from playground.probes.weights import block_of, head_weights
from playground.results import Head, TokenCircuit
from tests.cases import MODEL_OPTIONS, random_tokens, small_model
from tests.handmade import LOGIT, SHARPNESS, back_head, induction_head, induction_model

TRUNK, LATER, FUTURE = Head("blocks.0", 1), Head("blocks.1", 0), Head("future_heads.1", 1)


def _model(**options):
    return small_model(**({"n_layers": 4, "n_future": 2} | options))


@pytest.mark.parametrize("options", MODEL_OPTIONS[::3])
@pytest.mark.parametrize("path", [(), (TRUNK,), (FUTURE,), (TRUNK, FUTURE), (TRUNK, LATER, FUTURE)])
def test_an_ov_circuit_equals_the_product_of_d_model_by_d_model_matrices(options, path):
    model = _model(**options)
    w, found = head_weights(model), ov_circuit(model, path)
    stream = torch.eye(16, dtype=torch.float64)
    for head in path:
        stream = stream @ (w.W_V[w.index(head)] @ w.W_O[w.index(head)])
    matrix = (w.W_E @ stream @ w.W_U).numpy()
    assert np.allclose(found.matrix, matrix, atol=1e-12)
    values = np.linalg.eigvals(matrix)
    assert found.eigenvalues == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-9)
    assert found.top1 == (matrix.argmax(axis=1) == np.arange(11)).mean()


@pytest.mark.parametrize("options", MODEL_OPTIONS[::3])
@pytest.mark.parametrize(
    ("key_path", "query_path"),
    [
        ((), ()),
        ((TRUNK,), ()),
        ((), (LATER,)),
        ((TRUNK, LATER), (TRUNK,)),
    ],
)
def test_a_qk_circuit_equals_the_product_of_d_model_by_d_model_matrices(options, key_path, query_path):
    model = _model(**options)
    w, found = head_weights(model), qk_circuit(model, FUTURE, key_path=key_path, query_path=query_path)
    sides = []
    for path in (query_path, key_path):
        side = w.W_E
        for head in path:
            side = side @ (w.W_V[w.index(head)] @ w.W_O[w.index(head)])
        sides.append(side)
    receiver = w.index(FUTURE)
    matrix = (sides[0] @ (w.W_Q[receiver] @ w.W_K[receiver].T) @ sides[1].T / np.sqrt(8)).numpy()
    assert np.allclose(found.matrix, matrix, atol=1e-12)
    values = np.linalg.eigvals(matrix)
    assert found.eigenvalues == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-9)
    assert found.top1 == (matrix.argmax(axis=1) == np.arange(11)).mean()


@pytest.mark.parametrize("positions", ["rotary", "standard"])
@pytest.mark.parametrize("head", [Head("blocks.0", 1), Head("future_heads.1", 0)])
def test_a_qk_circuit_is_the_scores_of_a_forward_at_every_distance(positions, head):
    """Embeddings of size 1, which norms leave as they are, and nothing written into the stream before the head."""
    model = small_model(positions=positions, mlp="none", n_future=2)
    with torch.no_grad():
        model.W_E.div_((model.W_E.pow(2).mean(dim=1, keepdim=True) / (1 - model.config.eps)).sqrt())
        block_of(model, head).ln1.weight.copy_(torch.linspace(0.5, 1.5, 16))
        block_of(model, Head("blocks.0", 0)).attn.out.weight.zero_()
        if positions == "standard":
            model.pos_embed.weight.zero_()
    tokens, kept = random_tokens(rows=4), {}
    block_of(model, head).attn.hook_attn_scores.add_hook(lambda value, hook: kept.update(scores=value.detach()))
    model(tokens, offsets=(1, 2))
    for distance in range(12):
        found = qk_circuit(model, head, distance=distance if positions == "rotary" else 0)
        for query in range(distance, 12):
            expected = found.matrix[tokens[:, query], tokens[:, query - distance]]
            actual = kept["scores"][:, head.index, query, query - distance].numpy()
            assert np.allclose(actual, expected, atol=1e-5)


def test_a_direct_ov_circuit_is_what_a_forward_adds_to_the_logits():
    """One token, attending to itself; the only head that writes; RMS norms left as they are but for their size."""
    model = small_model(mlp="none", n_layers=2, n_future=1, positions="rotary")
    head = Head("blocks.0", 1)
    with torch.no_grad():
        block_of(model, Head("future_heads.0", 0)).attn.out.weight.zero_()
        block_of(model, head).attn.out.weight[:, :8].zero_()
    found, skipped = ov_circuit(model, (head,)), ov_circuit(model, ())
    embedded = model.W_E.detach().double()
    first = (embedded.pow(2).mean(dim=1) + model.config.eps).sqrt()
    kept = {}
    model.ln_final.hook_scale.add_hook(lambda value, hook: kept.update(scale=value.detach()))
    logits = model(torch.arange(11)[:, None])[:, 0].detach()
    expected = (skipped.matrix + found.matrix / first[:, None].numpy()) / kept["scale"][:, 0].numpy()
    assert np.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_induction_head_looks_for_its_own_token_one_or_two_back(normalization, k):
    model = induction_model(2, normalization=normalization)
    through = qk_circuit(model, induction_head(k), key_path=(back_head(k),))
    assert through.top1 == 1.0 and through.eigenvalues == pytest.approx(1.0, abs=0.01)
    for others in ((), (back_head(3 - k),)):  # its own embedding or the other trunk head's word tells it nothing
        circuit = qk_circuit(model, induction_head(k), key_path=others)
        assert np.abs(circuit.matrix).max() < 0.1 * through.matrix.diagonal().min()
    assert ov_circuit(model, (induction_head(k),)).top1 == 1.0
    assert through.rows()[0]["chance"] == 1 / 32


def test_the_entries_of_hand_built_circuits_are_the_logits_and_scores_they_were_built_with():
    model = induction_model(noise=0)
    key_size = (3 / 128) ** 0.5  # weights of the first norm, which the previous-token head's values pass
    size = (4 / 128) ** 0.5
    scores = qk_circuit(model, induction_head(), key_path=(back_head(),)).matrix
    assert np.allclose(scores, np.eye(32) * SHARPNESS * size**2 * key_size, atol=1e-5)
    final = (5 / 128) ** 0.5
    assert np.allclose(ov_circuit(model, (induction_head(),)).matrix, np.eye(32) * LOGIT * size * final, atol=1e-5)


def test_paths_have_the_scores_that_copying_gives_them():
    model = _model(normalization="LN")
    found = copying(model)
    for i, head in enumerate(found.heads):
        circuit = ov_circuit(model, (head,))
        assert (circuit.eigenvalues, circuit.top1) == pytest.approx((found.direct_eigenvalues[i], found.direct_top1[i]))
        for j, via in enumerate(found.via if i < 4 else ()):
            circuit = ov_circuit(model, (head, via))
            expected = found.through_eigenvalues[i, j], found.through_top1[i, j]
            assert (circuit.eigenvalues, circuit.top1) == pytest.approx(expected)


def test_names_tell_the_path():
    model = _model(positions="rotary")
    assert ov_circuit(model, (TRUNK, FUTURE)).name == "embed -> blocks.0.1 OV -> future_heads.1.1 OV -> unembed"
    found = qk_circuit(model, FUTURE, key_path=(TRUNK,), distance=3)
    assert found.name == "future_heads.1.1 QK: query embed, key embed -> blocks.0.1 OV, 3 apart"


@pytest.mark.parametrize("tokens", [[3], [7, 2, 10], (0, 1)])
def test_chosen_tokens_are_a_part_of_the_whole(tokens):
    model = _model()
    for circuit in (
        lambda **chosen: ov_circuit(model, (TRUNK,), **chosen),
        lambda **chosen: qk_circuit(model, FUTURE, **chosen),
    ):
        whole, part = circuit(), circuit(tokens=tokens)
        assert np.allclose(part.matrix, whole.matrix[np.ix_(tokens, tokens)])
        assert part.top1 == token_circuit("", torch.tensor(part.matrix)).top1
        assert part.eigenvalues == pytest.approx(token_circuit("", torch.tensor(part.matrix)).eigenvalues)


def test_distance_0_and_standard_positions_turn_nothing():
    model = _model(positions="rotary")
    near, far = qk_circuit(model, FUTURE), qk_circuit(model, FUTURE, distance=5)
    assert np.abs(near.matrix - far.matrix).max() > 0.01
    with pytest.raises(ValueError, match=r"distance is 1, and positions are 'standard'.*write distance=0"):
        qk_circuit(_model(positions="standard"), FUTURE, distance=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: ov_circuit(model, (FUTURE, TRUNK)), r"blocks\.0\.1 cannot read what future_heads\.1\.1 writes"),
        (lambda model: ov_circuit(model, (Head("blocks.5", 0),)), r"no attention head blocks\.5\.0"),
        (lambda model: qk_circuit(model, Head("blocks.0", 9)), r"no attention head blocks\.0\.9"),
        (
            lambda model: qk_circuit(model, TRUNK, key_path=(LATER,)),
            r"blocks\.0\.1 cannot read what blocks\.1\.0 writes",
        ),
        (lambda model: qk_circuit(model, TRUNK, query_path=(TRUNK,)), "both read the same stream"),
        (lambda model: qk_circuit(model, FUTURE, distance=12), "distance is 12; write 0 to 11"),
        (lambda model: qk_circuit(model, FUTURE, distance=-1), "distance is -1; write 0 to 11"),
        (lambda model: ov_circuit(model, (TRUNK,), tokens=[0, 11]), "unknown token 11; write tokens from 0 to 10"),
        (lambda model: ov_circuit(model, (TRUNK,), tokens=[]), "a circuit of 0 tokens"),
        (
            lambda model: ov_circuit(model, (TRUNK,), tokens=[2, 1, 2]),
            r"name one token twice; write each once: \[1, 2\]",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(_model(positions="rotary"))


def test_a_vocabulary_too_large_for_a_matrix_is_refused(monkeypatch):
    monkeypatch.setattr(token_circuits, "MOST_TOKENS", 10)
    with pytest.raises(
        ValueError, match=r"a circuit of 11 tokens; write tokens=\.\.\. with 1 to 10 of them, or use copying"
    ):
        ov_circuit(_model(), (TRUNK,))
    assert ov_circuit(_model(), (TRUNK,), tokens=range(10)).matrix.shape == (10, 10)


def test_they_leave_no_trace_and_can_be_stored():
    model, tokens = _model().train(), random_tokens()
    before = model(tokens)
    found = [ov_circuit(model, (TRUNK, FUTURE)), qk_circuit(model, FUTURE, key_path=(TRUNK,))]
    assert model.training and torch.equal(model(tokens), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(point.fwd_hooks for point in model.hook_points())
    for circuit in found:
        assert circuit.matrix.dtype == np.float64
        assert np.allclose(TokenCircuit.from_dict(circuit.to_dict()).matrix, circuit.matrix, rtol=1e-4)


def test_a_trunk_without_layers_has_circuits_of_its_future_heads():
    model = small_model(n_layers=1, n_future=2, control="trunk")
    assert ov_circuit(model, (FUTURE,)).matrix.shape == qk_circuit(model, FUTURE).matrix.shape == (11, 11)
