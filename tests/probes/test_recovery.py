"""Which rows count, and the ends of the scale: everything patched and nothing patched."""

import numpy as np
import pytest
import torch

from playground.probes.recovery import Patch, both_runs, offset_of, patched_differences, path_layers
from tests.cases import MODEL_OPTIONS, small_model
from tests.handmade import induction_model
from tests.probes.patched_by_hand import every_margin_counts, run, small_pairs, task_pairs


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_the_whole_clean_stream_at_any_layer_brings_back_all_and_nothing_brings_back_nothing(options, monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=4, n_future=2, **options), small_pairs(offset=2)
    layers = path_layers(model, 2)
    runs = both_runs(model, pairs, [f"{layer}.hook_resid_pre" for layer in layers])
    for number, layer in enumerate(layers):
        for source, expected in ((runs.clean, 1.0), (runs.corrupted, 0.0)):
            patch = Patch(
                layer=number,
                point="hook_resid_pre",
                values=source.activations[f"{layer}.hook_resid_pre"],
                rows=torch.arange(3),
                place=(slice(None),),
            )
            found = runs.recovery(patched_differences(model, pairs, runs.corrupted, patch))
            np.testing.assert_allclose(found, expected, atol=2e-3)


def test_differences_are_those_of_a_whole_forward():
    model, pairs = small_model(n_layers=4, n_future=2), small_pairs(offset=2)
    runs = both_runs(model, pairs, [])
    for row in range(3):
        for found, tokens in ((runs.clean, pairs.clean), (runs.corrupted, pairs.corrupted)):
            assert float(found.difference[row]) == pytest.approx(run(model, pairs, row, tokens)[0], abs=1e-5)


def test_rows_that_lie_closer_than_the_margin_are_left_out(monkeypatch):
    model, pairs = small_model(), small_pairs(rows=8)
    every_margin_counts(monkeypatch)
    gaps = [run(model, pairs, row, pairs.clean)[0] - run(model, pairs, row, pairs.corrupted)[0] for row in range(8)]
    margin = float(np.median(gaps))
    monkeypatch.setattr("playground.probes.recovery.MARGIN", margin)
    kept = [row for row, gap in enumerate(gaps) if gap > margin]
    runs = both_runs(model, pairs, ["blocks.0.attn.hook_z"])
    assert torch.equal(runs.pairs.query, pairs.query[kept])
    assert torch.equal(runs.clean.tokens, pairs.clean[kept])
    assert len(runs.clean.activations["blocks.0.attn.hook_z"]) == len(runs.corrupted.difference) == 4
    np.testing.assert_allclose(runs.recovery(runs.clean.difference), 1)
    assert np.array_equal(runs.recovery(runs.corrupted.difference), np.zeros(4))


def test_when_no_row_counts_all_stay_and_recovery_is_undefined(monkeypatch):
    monkeypatch.setattr("playground.probes.recovery.MARGIN", 1000.0)
    runs = both_runs(induction_model(), task_pairs(), [])
    assert len(runs.pairs.query) == len(runs.clean.difference) == 6
    assert np.isnan(runs.recovery(runs.clean.difference[:, None].repeat(1, 2))).all()


def test_the_offset_is_that_of_the_pairs():
    pairs = small_pairs(offset=2)
    assert offset_of(pairs, None) == offset_of(pairs, 2) == 2
    with pytest.raises(ValueError, match=r"make_pairs\(\.\.\., offset=1\)"):
        offset_of(pairs, 1)


def test_the_path_of_an_offset():
    model = small_model(n_layers=4, n_future=2)
    assert path_layers(model, 2) == ("blocks.0", "blocks.1", "future_heads.1")
    with pytest.raises(ValueError, match="the model predicts the offsets 1 to 2"):
        path_layers(model, 3)
