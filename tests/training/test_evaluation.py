"""Evaluation: the right mode while it lasts, the old one afterwards, and no trace in the model."""

import math

import pytest
import torch

from playground.training.evaluation import evaluate
from tasks.induction import Induction, InductionConfig
from tasks.targets import IGNORED, future_targets
from tests.cases import small_model


def task(**changes) -> Induction:
    values = {"n_ctx": 12, "d_vocab": 11, "min_distance": 3, "max_distance": 6, "test_rows": 16}
    return Induction(InductionConfig(**(values | changes)))


class Watched(Induction):
    """Notes what mode the model is in whenever it is asked, and what it was asked for."""

    def watch(self, model) -> "Watched":
        self.model, self.seen = model, []
        return self

    def evaluate(self, predict, *, n_future=1, device="cpu", full=False):
        self.asked = (n_future, torch.device(device).type, full)

        def watched(tokens, offsets):
            logits = predict(tokens, offsets)
            self.seen.append((self.model.training, torch.is_grad_enabled(), logits.requires_grad))
            return logits

        return super().evaluate(watched, n_future=n_future, device=device, full=full)


@pytest.mark.parametrize("full", [False, True])
def test_the_task_is_asked_in_evaluation_mode_without_gradients(full):
    model = small_model(n_future=2).train()
    watched = Watched(task().config).watch(model)
    result = evaluate(model, watched, full=full)
    assert watched.seen and set(watched.seen) == {(False, False, False)}
    assert watched.asked == (2, "cpu", full)
    assert len(result.loss) == 2


def test_no_trace_is_left():
    model = small_model(n_future=2).train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    evaluate(model, task())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_gradients_that_are_there_stay():
    model = small_model(n_future=2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    evaluate(model, task())
    assert all(bool((parameter.grad == 1).all()) for parameter in model.parameters())


def test_the_loss_of_each_offset_is_the_mean_cross_entropy_on_the_test_rows():
    model, ours = small_model(n_future=2).eval(), task()
    batch = ours.test_batch(16)
    result = evaluate(model, ours)
    with torch.no_grad():
        logits = model(batch.tokens, [1, 2]).double().log_softmax(-1)
    for offset in (1, 2):
        targets = future_targets(batch, offset)
        rows = [
            -logits[row, position, offset - 1, targets[row, position]].item()
            for row in range(16)
            for position in range(12)
            if targets[row, position] != IGNORED
        ]
        assert result.loss[offset - 1] == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_twice_gives_the_same():
    model, ours = small_model(), task()
    first, second = evaluate(model, ours), evaluate(model, ours)
    assert first == second
    assert math.isfinite(first.loss[0])
