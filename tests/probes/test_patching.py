"""Activation patching on a circuit that is known, against slow loops, and the promise to leave no trace."""

import numpy as np
import pytest

from playground.probes.patching import patch_heads, patch_positions
from playground.probes.path_patching import path_patching
from playground.results import HeadPatching, PositionPatching
from tests.cases import MODEL_OPTIONS, small_model
from tests.handmade import back_head, induction_head, induction_model
from tests.probes.no_trace import leaves_no_trace
from tests.probes.patched_by_hand import Ends, every_margin_counts, put, small_pairs, task_pairs

SITES = ("resid_pre", "attn_out", "mlp_out")
CIRCUITS = [(1, 1, "RMS"), (2, 1, "RMS"), (2, 2, "RMS"), (1, 1, "LN")]
"""Handmade models: n_future, offset and normalisation."""


@pytest.mark.parametrize(("n_future", "offset", "normalization"), CIRCUITS)
@pytest.mark.parametrize(
    ("corrupt", "site", "where"),
    [
        # Where the corrupted fact is, before (or in) the trunk layer and the future head:
        ("answer", "resid_pre", ("source", "source")),
        ("answer", "attn_out", (None, "query")),
        ("match", "resid_pre", ("before source", "source")),
        ("match", "attn_out", ("source", "query")),
    ],
)
def test_by_role_the_fact_is_where_the_circuit_holds_it(corrupt, site, where, n_future, offset, normalization):
    model = induction_model(n_future, normalization=normalization)
    pairs = task_pairs(offset=offset, corrupt=corrupt)
    result = patch_positions(model, pairs, site=site, offset=offset)
    assert result.sites == (f"blocks.0.hook_{site}", f"future_heads.{offset - 1}.hook_{site}")
    roles = result.by_role()
    assert set(roles) == {"before source", "source", "query", "other"}
    for role, found in roles.items():
        for layer in range(2):
            assert found[layer] == pytest.approx(1.0 if role == where[layer] else 0.0, abs=0.03), (role, layer)


@pytest.mark.parametrize(("n_future", "offset", "normalization"), CIRCUITS)
@pytest.mark.parametrize("corrupt", ["answer", "match"])
def test_the_heads_of_the_circuit_bring_back_all_and_the_others_nothing(corrupt, n_future, offset, normalization):
    model = induction_model(n_future, normalization=normalization)
    result = patch_heads(model, task_pairs(offset=offset, corrupt=corrupt), offset=offset)
    needed = {induction_head(offset)} | ({back_head(offset)} if corrupt == "match" else set())
    assert needed < set(result.heads) and result.recovery.shape == (6, len(result.heads))
    for index, head in enumerate(result.heads):
        np.testing.assert_allclose(result.recovery[:, index], 1.0 if head in needed else 0.0, atol=0.03)


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_equals_a_slow_loop_over_rows_layers_and_positions(options, monkeypatch):
    every_margin_counts(monkeypatch)
    monkeypatch.setattr("playground.probes.recovery.MOST_TOKENS", 40)  # three runs at once
    model = small_model(n_layers=4, n_future=2, seed=5, **options)
    pairs = small_pairs(rows=2, offset=2)
    found = [patch_positions(model, pairs, site=site) for site in SITES[: 2 if options["mlp"] == "none" else 3]]
    for row in range(2):
        ends = Ends(model, pairs, row)
        for result in found:
            assert len(result.sites) == 3
            for index, name in enumerate(result.sites):
                for position in range(12):
                    slow = ends.recovery(pairs.corrupted, [put(name, ends.clean[name], 0, position)])
                    assert result.recovery[row, index, position] == pytest.approx(slow, abs=2e-3)


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_heads_equal_a_slow_loop(options, monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=4, n_future=2, seed=5, **options), small_pairs(offset=2)
    result = patch_heads(model, pairs)
    for row in range(3):
        ends = Ends(model, pairs, row)
        for index, head in enumerate(result.heads):
            name = f"{head.layer}.attn.hook_z"
            slow = ends.recovery(pairs.corrupted, [put(name, ends.clean[name], 0, slice(None), head.index)])
            assert result.recovery[row, index] == pytest.approx(slow, abs=2e-3)


def test_hooks_of_others_act_once_in_a_patched_run_as_in_a_whole_one(monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=4, seed=3), small_pairs(rows=1)
    model.hook_trunk.add_hook(lambda z, hook: 1.5 * z)
    for block in model.blocks:
        block.hook_resid_pre.add_hook(lambda resid, hook: resid + 1)
        block.hook_resid_post.add_hook(lambda resid, hook: 2 * resid)
    ends, result = Ends(model, pairs, 0), patch_positions(model, pairs, site="attn_out")
    for index, name in enumerate(result.sites):
        position = int(pairs.query[0])
        slow = ends.recovery(pairs.corrupted, [put(name, ends.clean[name], 0, position)])
        assert result.recovery[0, index, position] == pytest.approx(slow, abs=2e-3)


def test_how_many_runs_share_a_forward_changes_nothing(monkeypatch):
    model, pairs = induction_model(), task_pairs()
    many = patch_positions(model, pairs).recovery
    monkeypatch.setattr("playground.probes.recovery.MOST_TOKENS", 1)
    np.testing.assert_allclose(patch_positions(model, pairs).recovery, many, atol=1e-5)


def test_differences_roles_and_rows_belong_together():
    pairs = task_pairs()
    result = patch_positions(induction_model(), pairs)
    assert result.roles == pairs.roles() and result.recovery.shape == (6, 2, 64)
    np.testing.assert_allclose(result.clean_difference, 20, atol=1)
    np.testing.assert_allclose(result.corrupted_difference, -20, atol=1)
    lines = {(line["patched"], line["at"]): line["recovery"] for line in result.rows()}
    assert lines["future_heads.0.hook_resid_pre", "source"] == pytest.approx(1, abs=0.03)
    for found, kind in ((result, PositionPatching), (patch_heads(induction_model(), pairs), HeadPatching)):
        again = kind.from_dict(found.to_dict())
        np.testing.assert_allclose(again.recovery, found.recovery, atol=1e-4)
        assert again.rows()


@pytest.mark.parametrize("patch", [patch_positions, patch_heads, path_patching])
def test_it_says_how_many_rows_were_given_and_how_many_count(patch, monkeypatch):
    """Of eight rows the half with the larger difference counts."""
    model, pairs = small_model(n_future=2), small_pairs(rows=8)
    every_margin_counts(monkeypatch)
    whole = patch_positions(model, pairs)
    assert (whole.rows_counted, whole.rows_given) == (8, 8)
    margin = float(np.median(whole.clean_difference - whole.corrupted_difference))
    monkeypatch.setattr("playground.probes.recovery.MARGIN", margin)
    found = patch(model, pairs)
    assert (found.rows_counted, found.rows_given) == (4, 8)
    assert found.note.startswith("4 of 8 rows count")
    assert all((row["rows counted"], row["rows given"]) == (4, 8) for row in found.rows())
    monkeypatch.setattr("playground.probes.recovery.MARGIN", 1000.0)
    none = patch(model, pairs)
    assert (none.rows_counted, none.rows_given) == (0, 8) and none.note.startswith("0 of 8 rows")


@pytest.mark.parametrize("patch", [patch_positions, patch_heads, path_patching])
def test_results_that_were_stored_before_do_not_say_it(patch, monkeypatch):
    every_margin_counts(monkeypatch)
    found = patch(small_model(), small_pairs())
    stored = {name: value for name, value in found.to_dict().items() if not name.startswith("rows_")}
    before = type(found).from_dict(stored)
    assert before.rows_given is None and before.note == "" and {row["rows given"] for row in before.rows()} == {None}


def test_a_model_that_does_not_use_the_fact_has_no_recovery_and_no_error():
    model = small_model(d_vocab=32, n_ctx=64)
    for parameter in model.unembed.parameters():
        parameter.data *= 1e-3
    result = patch_positions(model, task_pairs())
    assert result.recovery.shape == (6, 3, 64) and np.isnan(result.recovery).all()
    assert np.isfinite(result.clean_difference).all() and result.by_role() == {} and result.rows() == []
    heads = patch_heads(model, task_pairs())
    assert np.isnan(heads.recovery).all() and len(heads.rows()) == 6


def test_a_model_without_a_trunk_has_its_future_head_patched(monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=1, n_future=2, control="trunk"), small_pairs(offset=2)
    result = patch_positions(model, pairs)
    assert result.sites == ("future_heads.1.hook_resid_pre",)
    for row, (clean, corrupted) in enumerate(zip(pairs.clean, pairs.corrupted, strict=True)):
        changed = (clean != corrupted).nonzero().flatten().tolist()
        if len(changed) == 1:
            assert result.recovery[row, 0, changed[0]] == pytest.approx(1, abs=1e-3)
    assert patch_heads(model, pairs).recovery.shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"site": "mlp_out"}, "the model has no MLPs"),
        ({"offset": 2}, r"the pairs are made for offset 1; write make_pairs\(\.\.\., offset=2\)"),
    ],
)
def test_what_cannot_be_patched_is_an_error(options, says):
    with pytest.raises(ValueError, match=says):
        patch_positions(induction_model(), task_pairs(), **options)


def test_pairs_further_ahead_than_the_model_predicts_are_an_error():
    for patch in (patch_positions, patch_heads):
        with pytest.raises(ValueError, match="the model predicts the offsets 1 to 1"):
            patch(induction_model(), task_pairs(offset=2))


def test_patching_leaves_no_trace(monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=4, n_future=2).train(), small_pairs()
    with leaves_no_trace(model):
        for site in SITES:
            patch_positions(model, pairs, site=site)
        patch_heads(model, pairs)
