"""Loss, accuracy and the in-context score on hand-built models, against slow loops and the tasks' own scoring."""

import math

import numpy as np
import pytest
import torch

from playground.probes.behaviour import measure_behaviour, stretches
from playground.results import Behaviour
from tasks.registry import make_task
from tasks.scoring import teacher_forced
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.handmade import induction_model
from tests.probes.no_trace import leaves_no_trace


def _odd_batch():
    """Two documents a row, padding, tokens that are no targets and some that are scored."""
    tokens = random_tokens(rows=4, length=12)
    documents = torch.tensor([0] * 5 + [1] * 5 + [-1] * 2).expand(4, 12)
    generator = torch.Generator().manual_seed(3)
    real = documents >= 0
    loss_mask = (torch.rand(4, 12, generator=generator) < 0.8) & real
    score_mask = (torch.rand(4, 12, generator=generator) < 0.6) & real
    return make_batch(tokens, documents=documents, loss_mask=loss_mask, score_mask=score_mask)


def _slow(model, batch, offset):
    """Loss, scored loss, accuracy, early and late loss: one token at a time."""
    with torch.no_grad():
        log_probs = model(batch.tokens, (offset,))[:, :, 0].log_softmax(dim=-1)
    length = batch.tokens.shape[1]
    found = {name: [] for name in ("loss", "scored", "right", "early", "late")}
    for row in range(len(batch.tokens)):
        for t in range(length - offset):
            at, same = t + offset, batch.documents[row, t] == batch.documents[row, t + offset]
            if not same or batch.documents[row, at] < 0:
                continue
            token = int(batch.tokens[row, at])
            loss = -float(log_probs[row, t, token])
            if batch.loss_mask[row, at]:
                found["loss"].append(loss)
                for name, (first, last) in zip(("early", "late"), stretches(length), strict=True):
                    if first <= at <= last:
                        found[name].append(loss)
            if all(batch.score_mask[row, t + 1 : at + 1]):
                found["scored"].append(loss)
                found["right"].append(float(log_probs[row, t].argmax() == token))
    return {name: np.mean(values) if values else math.nan for name, values in found.items()}


def test_every_figure_equals_a_slow_loop():
    model, batch = small_model(n_future=2), _odd_batch()
    result = measure_behaviour(model, batch)
    for k in (1, 2):
        slow = _slow(model, batch, k)
        ours = (result.loss, result.score_loss, result.accuracy, result.in_context)
        expected = (slow["loss"], slow["scored"], slow["right"], slow["late"] - slow["early"])
        for values, value in zip(ours, expected, strict=True):
            assert values[k - 1] == pytest.approx(value, rel=1e-5, nan_ok=True)


def test_it_agrees_with_the_scoring_of_tasks():
    task = make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=6, test_rows=20)
    model, batch = small_model(n_future=2), task.test_batch(20)
    result, expected = measure_behaviour(model, batch), teacher_forced(model, [batch], 2)
    for name in ("loss", "score_loss", "accuracy"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), rtol=1e-5)


def test_the_hand_built_induction_model_is_perfect_and_gains_from_context():
    task = make_task("induction", d_vocab=32, n_ctx=64, min_distance=6, max_distance=16, test_rows=16)
    result = measure_behaviour(induction_model(2), task.test_batch(16))
    assert result.accuracy.tolist() == [1, 1] and (result.score_loss < 1e-3).all()
    assert (result.early, result.late) == ((1, 16), (48, 63))
    assert (result.in_context < -2).all()  # without a match it guesses among 32 tokens, and wrongly so


def test_a_model_that_cannot_use_context_gains_nothing():
    model = small_model(n_ctx=64, d_vocab=11)
    with torch.no_grad():
        model.unembed.weight.zero_()
    result = measure_behaviour(model, make_batch(random_tokens(rows=4, length=64)))
    assert result.loss[0] == pytest.approx(math.log(11)) and abs(result.in_context[0]) < 1e-6


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (8, ((1, 2), (6, 7))),
        (64, ((1, 16), (48, 63))),
        (3, ((1, 1), (2, 2))),
        (2, ((1, 1), (1, 1))),
    ],
)
def test_stretches_are_quarters(length, expected):
    assert stretches(length) == expected


def test_what_is_nowhere_predicted_is_nan():
    tokens = random_tokens(rows=2, length=12)
    batch = make_batch(tokens, score_mask=torch.zeros_like(tokens, dtype=torch.bool))
    result = measure_behaviour(small_model(n_layers=7, n_future=6), batch)
    assert np.isnan(result.accuracy).all() and np.isnan(result.score_loss).all() and np.isfinite(result.loss).all()
    assert np.isnan(result.in_context).tolist() == [False, False, False, True, True, True]  # no early target 4 ahead
    assert np.isnan(Behaviour.from_dict(result.to_dict()).accuracy).all()


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
def test_every_model_is_measured_without_a_trace(options):
    model = small_model(n_future=2, **options).train()
    with leaves_no_trace(model):
        result = measure_behaviour(model, _odd_batch())
    assert result.loss.shape == (2,) and np.isfinite(result.loss).all()
    assert [line["offset"] for line in result.rows()] == [1, 2]
