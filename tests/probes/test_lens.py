"""The lens behind the last layer is the model itself; elsewhere, against slow loops."""

import numpy as np
import pytest
import torch

from playground.probes.behaviour import measure_behaviour
from playground.probes.lens import lens, lens_view
from playground.probes.residuals import trunk_streams
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets, score_targets
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


def _batch() -> Batch:
    """Two documents and padding a row, some tokens no targets and some not scored."""
    tokens = random_tokens(rows=6)
    documents = torch.tensor([0] * 6 + [1] * 5 + [-1]).expand(6, -1)
    random = torch.rand(6, 12, generator=torch.Generator().manual_seed(1))
    return make_batch(tokens, documents=documents, loss_mask=random > 0.2, score_mask=random > 0.4)


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_behind_the_last_layer_it_is_the_model_to_the_last_bit(options):
    model = small_model(n_layers=4, n_future=2, **options)
    result, own = lens(model, _batch()), measure_behaviour(model, _batch())
    assert result.sites == ("embed", "blocks.0", "blocks.1")
    assert np.array_equal(result.loss[-1], own.loss)
    assert np.array_equal(result.accuracy[-1], own.accuracy)


def test_every_site_against_a_slow_loop():
    model, batch = small_model(n_layers=4, n_future=2), _batch()
    result, streams = lens(model, batch), trunk_streams(model, batch.tokens)
    for i, site in enumerate(streams):
        for k in (1, 2):
            for loss, accuracy, resid in (
                (result.loss, result.accuracy, model.future_resid(streams[site], k)),
                (result.direct_loss, result.direct_accuracy, streams[site]),
            ):
                log_probability = model.logits(resid).log_softmax(dim=-1)
                targets, scored = future_targets(batch, k), score_targets(batch, k)
                places = [(b, t) for b in range(6) for t in range(12)]
                losses = [-log_probability[b, t, targets[b, t]].item() for b, t in places if targets[b, t] != IGNORED]
                right = [
                    (log_probability[b, t].argmax() == scored[b, t]).item()
                    for b, t in places
                    if scored[b, t] != IGNORED
                ]
                assert loss[i, k - 1] == pytest.approx(np.mean(losses), rel=1e-5)
                assert accuracy[i, k - 1] == pytest.approx(np.mean(right))


def test_eight_offsets_on_a_trunk_without_layers_and_where_nothing_counts():
    model = small_model(n_layers=1, control="trunk", n_future=8)
    nothing = torch.zeros(3, 12, dtype=torch.bool)
    result = lens(model, make_batch(random_tokens(), score_mask=nothing))
    assert result.sites == ("embed",)
    assert result.loss.shape == (1, 8)
    assert np.isfinite(result.loss).all() and np.isfinite(result.direct_loss).all()
    assert np.isnan(result.accuracy).all() and np.isnan(result.direct_accuracy).all()
    assert len(result.rows()) == 8


def test_a_copying_model_is_read_directly_from_the_embedding():
    """The unembedding is the transposed embedding, one-hot: directly, every layer says the current token."""
    model = small_model(d_vocab=8, mlp="none")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0 if parameter.ndim == 2 else 1)
        model.embed.weight.copy_(torch.eye(8, 16))
        model.unembed.weight.copy_(20 * torch.eye(8, 16))
    repeated = torch.arange(8)[:, None].expand(-1, 12)
    result = lens(model, make_batch(repeated))
    assert (result.direct_accuracy == 1.0).all() and (result.accuracy == 1.0).all()
    assert (result.direct_loss < 1e-3).all()
    assert lens(model, make_batch(torch.arange(8).repeat(2)[None, :12])).direct_accuracy.max() == 0.0


@pytest.mark.parametrize("ranks", [1, 3, 11])
def test_the_view_of_one_row_ranks_what_the_model_says(ranks):
    model, tokens = small_model(n_layers=4, n_future=2), random_tokens(rows=1)[0]
    view = lens_view(model, tokens, ranks)
    assert view.sites == ("embed", "blocks.0", "blocks.1")
    assert view.tokens == tuple(tokens.tolist())
    assert view.through.shape == view.probability.shape == (3, 2, 12, ranks)
    assert view.direct.shape == view.direct_probability.shape == (3, 12, ranks)
    with torch.no_grad():
        own = model(tokens[None], (1, 2))[0].softmax(dim=-1)
        direct = model.logits(trunk_streams(model, tokens[None])["embed"])[0].softmax(dim=-1)
    for t in range(12):
        for ranked, probability, truth in (
            *((view.through[-1, k, t], view.probability[-1, k, t], own[t, k]) for k in range(2)),
            (view.direct[0, t], view.direct_probability[0, t], direct[t]),
        ):
            assert ranked.tolist() == truth.argsort(descending=True)[:ranks].tolist()
            assert probability == pytest.approx(truth[torch.tensor(ranked)].numpy())
    assert len(view.rows()) == 3 * 2 * 12


@pytest.mark.parametrize("ranks", [0, 12])
def test_ranks_that_there_are_not(ranks):
    with pytest.raises(ValueError, match="the model has 11 tokens; write 1 to 11"):
        lens_view(small_model(), random_tokens(rows=1)[0], ranks)


def test_no_trace_is_left():
    model = small_model(n_layers=4, n_future=2).train()
    with leaves_no_trace(model):
        lens(model, _batch())
        lens_view(model, random_tokens(rows=1)[0])
