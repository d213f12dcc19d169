"""What is computed from stored models: equal to the probes, the same at every call, nothing left behind."""

import numpy as np
import pytest
import torch

from playground.probes.ablation import SET, ablate
from playground.probes.attention_scores import attention_patterns
from playground.probes.composition import composition
from playground.results import Head, used_by
from playground.ui.heads import models as models
from playground.ui.shared import models as stored_models
from playground.ui.shared.models import Loaded
from tasks.induction import Induction, InductionConfig
from tests.cases import small_model
from tests.probes.no_trace import leaves_no_trace

TASK = Induction(InductionConfig(n_ctx=12, d_vocab=11, min_distance=3, max_distance=5, test_rows=40))


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return Loaded(model=small_model(n_future=2), task=TASK)


ROW = tuple(TASK.test_batch(1).tokens[0].tolist())
PLACES = tuple(range(len(ROW)))


def test_patterns_are_the_models_own(loaded: Loaded) -> None:
    found = models.patterns(loaded, ROW)
    expected = attention_patterns(loaded.model, torch.tensor([ROW]))
    assert set(found) == set(expected)
    for layer, pattern in expected.items():
        np.testing.assert_allclose(found[layer], pattern[0].numpy(), atol=1e-6)


def test_induction_targets_are_behind_earlier_occurrences() -> None:
    targets = models.induction_targets((7, 2, 5, 7, 2))
    assert np.argwhere(targets).tolist() == [[3, 1], [4, 2]]


def test_composition_is_the_probes(loaded: Loaded) -> None:
    np.testing.assert_array_equal(models.composition_of(loaded).k, composition(loaded.model).k)


@pytest.mark.parametrize("method", ["mean", "resample", "zero"])
@pytest.mark.parametrize("parts", [("blocks.0.1",), ("blocks.0.0", "future_heads.1.mlp"), ("future_heads.0",)])
def test_ablations_are_the_probes(loaded: Loaded, parts: tuple[str, ...], method) -> None:
    found = models.without(loaded, (parts,), method)
    expected = ablate(loaded.model, models.test_rows(loaded), [SET.join(parts)], method=method)
    for name in ("clean_loss", "clean_accuracy", "loss", "accuracy"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    assert found.components == expected.components and found.method == method


def test_taking_out_nothing_changes_nothing(loaded: Loaded) -> None:
    found = models.without(loaded, ((),), "mean")
    np.testing.assert_array_equal(found.loss_change, 0)
    np.testing.assert_array_equal(found.loss[0], models.whole(loaded)[0])


def test_no_sets_no_effects(loaded: Loaded) -> None:
    assert models.without(loaded, (), "mean").loss.shape == (0, *models.whole(loaded)[0].shape)


def test_resampling_is_the_same_in_any_order(loaded: Loaded) -> None:
    first, second = ("blocks.0.1",), ("blocks.0.0",)
    found = models.without(loaded, (first, second), "resample")
    turned = models.without(loaded, (second, first), "resample")
    np.testing.assert_array_equal(found.loss, turned.loss[::-1])
    np.testing.assert_array_equal(found.accuracy, turned.accuracy[::-1])


def test_predictions_of_every_offset(loaded: Loaded) -> None:
    found = models.predicted(loaded, ROW, (), "mean", PLACES)
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ROW]), (1, 2))
    np.testing.assert_array_equal(found, logits[0].argmax(dim=-1).T.numpy())


def test_predictions_without_a_part_are_those_of_an_ablated_model(loaded: Loaded) -> None:
    """A future head taken out whole passes on what the trunk gives it."""
    found = models.predicted(loaded, ROW, ("future_heads.1",), "zero", PLACES)
    with torch.no_grad():
        z = loaded.model.trunk(torch.tensor([ROW]))
        expected = loaded.model.logits(z)[0].argmax(dim=-1).numpy()
    np.testing.assert_array_equal(found[1], expected)
    np.testing.assert_array_equal(found[0], models.predicted(loaded, ROW, (), "mean", PLACES)[0])


@pytest.mark.parametrize("method", ["mean", "resample"])
def test_a_typed_row_may_be_shorter_than_the_test_rows(loaded: Loaded, method) -> None:
    assert models.predicted(loaded, ROW[:5], ("blocks.0.1",), method, PLACES[:5], 3).shape == (2, 5)


HEADS = [Head("blocks.0", index) for index in range(6)]


@pytest.mark.parametrize(("count", "sets", "size"), [(0, 0, 0), (1, 5, 1), (3, 5, 3), (6, 1, 6), (9, 1, 6)])
def test_random_sets(count: int, sets: int, size: int) -> None:
    found = models.random_sets(HEADS, count)
    assert found == models.random_sets(HEADS, count)
    assert 0 <= sets - len(found) <= 2, "fewer only where the same set was drawn twice"
    assert all(len(set(names)) == size and set(names) <= set(map(str, HEADS)) for names in found)


def test_random_sets_of_nothing() -> None:
    assert models.random_sets([], 2) == ()


def test_heads_that_an_offset_uses() -> None:
    heads = [Head("blocks.0", 0), Head("future_heads.0", 1), Head("future_heads.1", 0)]
    assert used_by(heads, 1) == (heads[0], heads[1])
    assert used_by(heads, 2) == (heads[0], heads[2])


def test_parts_and_mlps(loaded: Loaded) -> None:
    names = [name for (name,) in models.all_parts(loaded)]
    assert names[:4] == ["blocks.0.0", "blocks.0.1", "blocks.0.attn", "blocks.0.mlp"]
    assert models.has_mlps(loaded)
    bare = Loaded(model=small_model(mlp="none"), task=TASK)
    assert not models.has_mlps(bare) and "blocks.0.mlp" not in [name for (name,) in models.all_parts(bare)]


def test_scores_are_those_of_the_probe(loaded: Loaded) -> None:
    found = models.scores_on_task(loaded)
    assert found.rows_from == "task" and found.layers == ("blocks.0", "future_heads.0", "future_heads.1")


def test_small_models_use_one_thread_and_the_number_comes_back(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    measure = models.one_at_a_time(lambda model: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        measure(loaded)
        monkeypatch.setattr(stored_models, "LARGE", 0)
        measure(loaded)
        assert seen == [1, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_large_models_are_measured_on_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Loaded(model=small_model(seed=3), task=TASK)
    monkeypatch.setattr(stored_models, "LARGE", 0)
    assert len(models.test_rows(large).tokens) == models.FEWER_ROWS < models.ROWS


def test_nothing_is_left_behind() -> None:
    loaded = Loaded(model=small_model(seed=4, n_future=2), task=TASK)
    with leaves_no_trace(loaded.model):
        models.patterns(loaded, ROW)
        models.without(loaded, (("blocks.0.1",), ("future_heads.0.mlp",)), "resample")
        models.predicted(loaded, ROW, ("blocks.0",), "mean", PLACES)
        models.composition_of(loaded)
        models.scores_on_task(loaded)


def test_it_says_how_long_it_takes(loaded: Loaded) -> None:
    assert models.seconds_to_measure(loaded) > 0
