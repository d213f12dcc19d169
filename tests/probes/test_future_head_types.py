"""Probes of models whose future heads are no plain layers on the trunk: all run, say who reads whom, and leave no trace."""

from typing import Any

import numpy as np
import pytest
import torch

from playground.probes.ablation import Ablator, ablate, all_components, induction_after_ablation
from playground.probes.attention_scores import attention_patterns
from playground.probes.catalogue import all_probes
from playground.probes.composition import composition
from playground.probes.copying import copying
from playground.probes.knockout import knockout
from playground.probes.lens import lens, lens_view
from playground.probes.patching import patch_heads, patch_positions
from playground.probes.path_patching import path_patching
from playground.probes.quiet import quietly
from playground.probes.registry import make_probes
from playground.probes.through_layers import through_layers
from playground.probes.token_circuits import ov_circuit
from playground.probes.weights import block_of
from playground.results import Head, InductionAfterAblation, used_by
from tasks.registry import make_task
from tests.cases import FUTURE_HEADS, TYPE_OPTIONS, make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace
from tests.probes.patched_by_hand import Ends, every_margin_counts, put, run, small_pairs

MIXED = [{"future_heads": kind, "unembedding": ("replicated", "shared")[i % 2]} for i, kind in enumerate(FUTURE_HEADS)]
"""Every type once, the unembedding by turns."""
CHAINED = ("causal", "anticausal", "sequential")
FURTHER = Head("future_heads.1", 0)


def model_of(kind: str, **changes: Any):
    return small_model(**({"n_layers": 5, "n_future": 3, "future_heads": kind} | changes))


@pytest.fixture(scope="module")
def probes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("playground.probes.linear.COUNTED", 1 << 12)
        yield _probes()


def _probes():
    task = make_task("induction", d_vocab=8, n_ctx=10, min_distance=3, max_distance=4, test_rows=12)
    return make_probes(list(all_probes()), task, 2)


@pytest.mark.parametrize("options", MIXED, ids=str)
def test_every_probe_runs_leaves_no_trace_and_reads_back(options, probes, monkeypatch):
    every_margin_counts(monkeypatch)
    model = small_model(n_layers=3, n_future=2, d_model=8, **options).train()
    with leaves_no_trace(model):
        results = {name: measure(model) for name, measure in probes.items()}
    for name, result in results.items():
        read = type(result).from_dict(result.to_dict())
        assert result.rows() and len(read.rows()) == len(result.rows()), name
    layers = model.config.attention_layers
    assert results["attention"].layers == tuple(attention_patterns(model, random_tokens())) == layers
    assert results["behaviour"].loss.shape == results["agreement"].agreement.shape == (2,)
    assert np.isfinite(results["behaviour"].loss).all() and np.isfinite(results["gradients"].share).all()


# --- who reads whom ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "later", "earlier", "expected"),
    [
        ("independent", 1, 0, False),
        ("causal", 1, 0, True),
        ("causal", 0, 1, False),
        ("causal", 2, 0, True),
        ("anticausal", 0, 1, True),
        ("anticausal", 0, 2, True),
        ("anticausal", 1, 0, False),
        ("sequential", 2, 1, True),
    ],
)
def test_comes_after_between_future_heads_is_what_the_model_computes(kind, later, earlier, expected):
    model, paths = model_of(kind), model_of(kind).config.paths
    one, other = (Head(f"future_heads.{index}", 0) for index in (later, earlier))
    assert one.comes_after(other, paths) is expected
    tokens = random_tokens()
    whole = attention_patterns(model, tokens)[one.layer]
    with quietly(model, [(f"{other.layer}.attn.hook_z", lambda z, hook: z * 0)]):
        changed = attention_patterns(model, tokens)[one.layer]
    assert (not torch.allclose(whole, changed)) is expected


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_used_by_is_what_changes_the_offset(kind):
    model, tokens = model_of(kind), random_tokens()
    heads = [head for head in composition(model).receivers if head.index == 0]
    for k in (1, 2, 3):
        before, used = model(tokens, (1, 2, 3))[:, :, k - 1], used_by(heads, k, model.config.paths)
        for head in heads:
            with quietly(model, [(f"{head.layer}.attn.hook_z", lambda z, hook: z * 0)]):
                after = model(tokens, (1, 2, 3))[:, :, k - 1]
            assert (not torch.allclose(before, after)) is (head in used)


def test_composition_has_senders_in_future_heads_that_others_read():
    def senders(kind: str) -> set[str]:
        return {head.layer for head in composition(model_of(kind)).senders if head.layer.startswith("future")}

    assert senders("independent") == senders("linear") == senders("medusa_mlp") == set()
    assert senders("causal") == senders("sequential") == {"future_heads.0", "future_heads.1"}
    assert senders("anticausal") == {"future_heads.1", "future_heads.2"}
    found = composition(model_of("anticausal"))
    assert np.isfinite(found.pair("k", Head("future_heads.2", 0), Head("future_heads.0", 1)))
    assert np.isnan(found.pair("k", Head("future_heads.1", 0), Head("future_heads.2", 1)))


def test_knockout_draws_from_all_on_the_next_tokens_path():
    batch = make_batch(random_tokens(rows=8))
    for kind, layers in (
        ("causal", {"future_heads.0"}),
        ("linear", set()),
        ("anticausal", {f"future_heads.{index}" for index in range(3)}),
    ):
        found = knockout(model_of(kind), batch)
        everyone = (*found.induction, *found.previous_token, *found.others)
        assert {head.layer for head in everyone if head.layer.startswith("future")} == layers


def test_induction_after_ablation_of_a_future_head_lists_those_that_read_it():
    batch = make_batch(random_tokens(rows=8))
    found = induction_after_ablation(model_of("anticausal"), batch, [FURTHER])
    assert {row["head"] for row in found.rows()} == {"future_heads.0.0", "future_heads.0.1"}
    assert induction_after_ablation(model_of("independent"), batch, [FURTHER]).rows() == []


def test_results_stored_before_there_were_types_still_read():
    found = induction_after_ablation(model_of("independent"), make_batch(random_tokens(rows=8)))
    stored = found.to_dict()
    del stored["paths"]
    read = InductionAfterAblation.from_dict(stored)
    assert read.paths == () and read.rows() == found.from_dict(found.to_dict()).rows()
    del stored["after"]
    with pytest.raises(ValueError, match="it has no 'after'"):
        InductionAfterAblation.from_dict(stored)


# --- ablation ------------------------------------------------------------------------------------------------------


def test_a_future_head_without_attention_is_one_component():
    model, batch = model_of("medusa_mlp"), make_batch(random_tokens(rows=8))
    names = all_components(model)
    assert names[-2:] == ["future_heads.1", "future_heads.2"] and "future_heads.0.attn" in names
    assert not any(name.startswith("future_heads.1.") for name in names)
    without = ablate(model, batch, ["future_heads.1"], method="zero")
    with torch.no_grad():
        model.future_heads[1].out.weight.zero_()
    expected = ablate(model, batch, []).clean_loss
    np.testing.assert_allclose(without.loss[0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"no component 'future_heads\.1\.attn'"):
        Ablator(model, batch.tokens).hooks("future_heads.1.attn")


# --- patching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", MIXED, ids=str)
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_patching_equals_whole_forwards(options, offset, monkeypatch):
    every_margin_counts(monkeypatch)
    monkeypatch.setattr("playground.probes.recovery.MOST_TOKENS", 40)
    model, pairs = small_model(n_layers=4, n_future=3, seed=5, **options), small_pairs(rows=2, offset=offset)
    end = Ends(model, pairs, 1)
    heads, positions = patch_heads(model, pairs), patch_positions(model, pairs)
    own = [site for site in positions.sites if site.startswith("future_heads")]
    assert own == [f"future_heads.{index}.hook_resid_pre" for index in model.path(offset)]
    for i, head in enumerate(heads.heads):
        name = f"{head.layer}.attn.hook_z"
        expected = end.recovery(pairs.corrupted, [put(name, end.clean[name], 0, slice(None), head.index)])
        assert heads.recovery[1, i] == pytest.approx(expected, abs=5e-3)
    for i, site in enumerate(positions.sites):
        for t in range(12):
            expected = end.recovery(pairs.corrupted, [put(site, end.clean[site], 0, t)])
            assert positions.recovery[1, i, t] == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("kind", CHAINED)
def test_path_patching_between_future_heads_equals_whole_forwards(kind, monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = model_of(kind, seed=5), small_pairs(rows=1, offset=2)
    path = [f"future_heads.{index}" for index in model.path(2)]
    found, end = path_patching(model, pairs), Ends(model, pairs, 0)
    assert path[0] in {head.layer for head in found.senders} and path[-1] not in {h.layer for h in found.senders}
    sender, receiver = Head(path[0], 1), Head(path[-1], 0)
    frozen = [put(name, value, ...) for name, value in end.clean.items() if name.endswith("hook_z")]
    name = f"{sender.layer}.attn.hook_z"
    second = [*frozen, put(name, end.corrupted[name], 0, slice(None), sender.index)]
    i, j = found.senders.index(sender), found.receivers.index(receiver)
    assert found.to_logits[i] == pytest.approx(1 - end.recovery(pairs.clean, second), abs=5e-3)
    _, kept = run(model, pairs, 0, pairs.clean, second)
    heard = f"{receiver.layer}.attn.hook_k"
    third = [put(heard, kept[heard], 0, slice(None), receiver.index)]
    assert found.k[i, j] == pytest.approx(1 - end.recovery(pairs.clean, third), abs=5e-3)


# --- lens and circuits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
def test_behind_the_last_layer_the_lens_reads_the_models_own_predictions(options):
    model, tokens = small_model(n_layers=5, n_future=3, **options), random_tokens()
    own = model(tokens, (1, 2, 3))
    view = lens_view(model, tokens[0], ranks=1)
    assert np.array_equal(view.through[-1, :, :, 0], own[0].argmax(dim=-1).T.numpy())
    found, batch = lens(model, make_batch(tokens)), make_batch(tokens)
    np.testing.assert_allclose(found.loss[-1], ablate(model, batch, []).clean_loss[0], rtol=1e-5)


def test_circuits_end_at_the_unembedding_of_their_offset():
    model = model_of("independent", unembedding="replicated")
    found, first = copying(model), copying(model_of("independent"))
    trunk, own = Head("blocks.0", 0), Head("future_heads.2", 1)
    alone = small_model(n_layers=5, n_future=3)
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if "more_" not in name})
    alone.unembed.weight.data = model.more_unembeds[1].weight.data
    third = copying(alone)
    i, j = found.heads.index(own), found.via.index(own)
    assert found.direct_eigenvalues[i] == pytest.approx(third.direct_eigenvalues[i])
    assert found.direct_eigenvalues[i] != pytest.approx(first.direct_eigenvalues[i])
    assert found.through_eigenvalues[0, j] == pytest.approx(third.through_eigenvalues[0, j])
    np.testing.assert_allclose(ov_circuit(model, (trunk, own)).matrix, ov_circuit(alone, (trunk, own)).matrix)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
@pytest.mark.parametrize("offset", [1, 2])
def test_through_layers_follows_the_path_of_the_offset(kind, offset):
    model, head = model_of(kind, mlp="none"), Head("blocks.0", 0)
    if kind in ("sequential", "hydra") and offset == 2:
        with pytest.raises(ValueError, match="also reads the tokens in between, which no path holds; write offset=1"):
            through_layers(model, (head,), offset)
        return
    found = through_layers(model, (head,), offset).matrix
    block = block_of(model, head)
    with torch.no_grad():
        written = block.ln1(model.W_E) @ block.attn.W_V[0] @ block.attn.W_O[0]

        def logits(streams):
            hooks = [("blocks.0.hook_resid_post", lambda resid, hook: streams[:, None])]
            return model.run_with_hooks(torch.zeros(11, 1, dtype=torch.long), (offset,), fwd_hooks=hooks)[:, 0, 0]

        expected = logits(written) - logits(written * 0)
    np.testing.assert_allclose(found, expected.double().numpy(), atol=1e-4)


def test_through_layers_from_a_future_head_that_another_reads():
    model = model_of("anticausal")
    assert through_layers(model, (Head("future_heads.2", 0),), 1).matrix.shape == (11, 11)
    assert ov_circuit(model, (Head("future_heads.2", 0), Head("future_heads.0", 0))).matrix.shape == (11, 11)
    with pytest.raises(ValueError, match="does not lead to offset 3; write offset=1"):
        through_layers(model, (Head("future_heads.0", 0),), 3)
    with pytest.raises(ValueError, match=r"upwards: future_heads\.2\.0, then future_heads\.0\.0"):
        ov_circuit(model, (Head("future_heads.0", 0), Head("future_heads.2", 0)))
