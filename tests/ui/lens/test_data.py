"""Rows read behind every layer: against the model run by hand, for every option of the model, and without a trace."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.lens import lens
from playground.ui.lens.data import ROWS, Way, means, read_row, row_of_test_set, typed_row
from playground.ui.shared.models import Loaded
from tasks import Task, make_task
from tests.cases import MODEL_OPTIONS, small_model


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=5, test_rows=8, quick_rows=4)


def loaded(task: Task, **options: Any) -> Loaded:
    return Loaded(model=small_model(**({"n_future": 2} | options)), task=task)


def stream(model: MTPTransformer, tokens: Tensor, layers: int) -> Tensor:
    """The residual stream after so many layers of the trunk."""
    resid = model.embed(tokens)
    if model.config.positions == "standard":
        resid = resid + model.pos_embed.weight[: tokens.shape[1]]
    for block in list(model.blocks)[:layers]:
        resid = block(resid, model.rotary(tokens.shape[1]) if model.config.positions == "rotary" else None)
    return resid


@torch.no_grad()
def by_hand(model: MTPTransformer, tokens: Tensor, offset: int, way: Way) -> np.ndarray:
    """`[layer, position, token]`: probabilities."""
    streams = [stream(model, tokens, layers) for layers in range(len(model.blocks) + 1)]
    through = [model.logits(model.future_resid(resid, offset)) for resid in streams]
    read = through if way == "through" else [*(model.logits(resid) for resid in streams), through[-1]]
    return torch.cat(read).softmax(dim=-1).numpy()


@pytest.mark.parametrize("options", MODEL_OPTIONS)
@pytest.mark.parametrize("way", ["through", "direct"])
@pytest.mark.parametrize("offset", [1, 2])
def test_what_each_layer_says_is_what_the_model_computes(
    task: Task, options: dict[str, Any], way: Way, offset: int
) -> None:
    here = loaded(task, **options)
    row = row_of_test_set(task, 1)
    found = read_row(here, row, offset=offset, way=way, title="a")
    expected = by_hand(here.model, row.batch.tokens, offset, way)
    order = np.argsort(-expected, axis=-1)[:, :, :3]
    np.testing.assert_allclose(found.probability, np.take_along_axis(expected, order, -1), atol=1e-5)
    assert [[list(ranks) for ranks in layer] for layer in found.predicted] == order.astype(str).tolist()
    comes = [*row.tokens[offset:], *[None] * offset]
    assert found.true == tuple(None if token is None else str(token) for token in comes)
    for position, token in enumerate(comes):
        if token is None:
            assert np.isnan(found.true_probability[:, position]).all() and not found.right[:, position].any()
        else:
            np.testing.assert_allclose(found.true_probability[:, position], expected[:, position, token], atol=1e-5)
            assert (found.right[:, position] == (expected[:, position].argmax(axis=-1) == token)).all()


def test_the_top_row_is_the_models_own_prediction(task: Task) -> None:
    here = loaded(task)
    row = row_of_test_set(task, 0)
    own = here.model(row.batch.tokens, (1, 2))[0].softmax(dim=-1).amax(dim=-1).detach().numpy()
    for way in ("through", "direct"):
        for offset in (1, 2):
            found = read_row(here, row, offset=offset, way=way, title="a")
            np.testing.assert_allclose(found.probability[-1, :, 0], own[:, offset - 1], atol=1e-5)


def test_layers_are_named_and_one_more_when_read_directly(task: Task) -> None:
    here, row = loaded(task), row_of_test_set(task, 0)
    names = ("embed", *(f"trunk {layer}" for layer in range(len(here.model.blocks))))
    assert read_row(here, row, offset=2, way="through", title="a").layers == names
    assert read_row(here, row, offset=2, way="direct", title="a").layers == (*names, "future head 2")


def test_scored_positions_are_those_whose_offset_the_task_scores(task: Task) -> None:
    here = loaded(task)
    row = row_of_test_set(task, 0)
    distance = int(task.test_batch(1).info["distance"][0])
    assert row.first_scored == distance + 1
    for offset in (1, 2):
        scored = read_row(here, row, offset=offset, way="through", title="a").scored
        assert scored.nonzero()[0].tolist() == list(range(distance, 12 - offset))


def test_reading_leaves_no_trace(task: Task) -> None:
    here = loaded(task)
    here.model.train()
    tokens = task.test_batch(2).tokens
    before = here.model(tokens, (1, 2))
    for way in ("through", "direct"):
        read_row(here, row_of_test_set(task, 0), offset=2, way=way, title="a")
    means(here)
    assert here.model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in here.model.parameters())
    assert not any(len(point.fwd_hooks) for point in here.model.hook_dict.values())
    torch.testing.assert_close(here.model(tokens, (1, 2)), before)


def test_a_row_is_shown_without_its_padding() -> None:
    polynomial = make_task("polynomial", test_per_m=20, quick_per_m=20)
    lengths = [len(row_of_test_set(polynomial, number).tokens) for number in range(10)]
    documents = polynomial.test_batch(10).documents
    assert lengths == (documents >= 0).sum(dim=1).tolist() and max(lengths) < polynomial.n_ctx
    stories = make_task("stories")
    assert "_" not in polynomial.token_strings(row_of_test_set(polynomial, 3).tokens)
    assert stories.token_strings(row_of_test_set(stories, 0).tokens).count("<end>") <= 1


def test_the_last_row_stands_for_those_that_are_not_there(task: Task) -> None:
    assert (
        row_of_test_set(task, 60).tokens
        == row_of_test_set(task, 7).tokens
        == tuple(task.test_batch(8).tokens[7].tolist())
    )


def test_a_typed_row_scores_nothing_and_comes_as_it_is_written(task: Task) -> None:
    row = typed_row(task, "1 2 3 1 2")
    assert (row.tokens, row.cut, row.first_scored) == ((1, 2, 3, 1, 2), 0, 5)
    found = read_row(loaded(task), row, offset=1, way="through", title="a")
    assert found.true == ("2", "3", "1", "2", None) and not found.scored.any()


def test_a_typed_row_is_cut_to_the_context(task: Task) -> None:
    row = typed_row(task, " ".join(str(number % 11) for number in range(15)))
    assert (len(row.tokens), row.cut) == (12, 3)
    with pytest.raises(ValueError, match="word 2, '11', is no token of this task"):
        typed_row(task, "1 11")


def test_a_row_of_one_token_can_be_read(task: Task) -> None:
    found = read_row(loaded(task), typed_row(task, "4"), offset=2, way="direct", title="a")
    assert found.true == (None,) and np.isnan(found.true_probability).all()


def test_means_are_the_lens_of_the_first_test_rows_and_computed_once(task: Task) -> None:
    here = loaded(task)
    found = means(here)
    expected = lens(here.model, task.test_batch(ROWS))
    np.testing.assert_array_equal(found.loss, expected.loss)
    np.testing.assert_array_equal(found.direct_accuracy, expected.direct_accuracy)
    assert means(here) is found
    assert means(loaded(task, seed=1)) is not found
