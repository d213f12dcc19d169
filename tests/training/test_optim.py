"""The optimizer and the learning rate, against tables and against one plain step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from playground.config import OptimConfig
from playground.training.optim import learning_rate, make_optimizer
from tests.cases import MODEL_OPTIONS, small_model


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_every_parameter_is_in_one_group_and_decays_exactly_when_it_is_a_matrix(options):
    model = small_model(n_future=2, **options)
    optimizer = make_optimizer(model, OptimConfig(weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0), name


def test_a_step_without_gradient_shrinks_matrices_and_leaves_vectors():
    model = small_model(normalization="LN", mlp="gelu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    optimizer = make_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kinds = set()
    for parameter in model.parameters():
        expected = 2.0 * (1 - 0.1 * 0.5) if parameter.ndim >= 2 else 2.0
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))
        kinds.add(parameter.ndim)
    assert kinds == {1, 2}


def test_the_first_step_has_the_length_of_the_learning_rate_against_the_gradient():
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = make_optimizer(model, OptimConfig(lr=0.01, weight_decay=0.0))
    gradient = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 3.0, -0.1]])
    model.weight.grad = gradient
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before - 0.01 * gradient.sign())


def test_the_configured_values_reach_the_optimizer():
    optimizer = make_optimizer(small_model(), OptimConfig(lr=0.02, beta1=0.8, beta2=0.9))
    assert all((group["lr"], group["betas"]) == (0.02, (0.8, 0.9)) for group in optimizer.param_groups)


ROOT_HALF = math.sqrt(0.5)
RATES = [
    # warm-up, floor, steps, then the rate of each step
    (0, 0.0, 4, [1.0, (1 + ROOT_HALF) / 2, 0.5, (1 - ROOT_HALF) / 2]),
    (4, 0.0, 8, [0.25, 0.5, 0.75, 1.0, 1.0, (1 + ROOT_HALF) / 2, 0.5, (1 - ROOT_HALF) / 2]),
    (0, 0.5, 4, [1.0, 0.5 + (1 + ROOT_HALF) / 4, 0.75, 0.5 + (1 - ROOT_HALF) / 4]),
    (0, 1.0, 3, [1.0, 1.0, 1.0]),
    (2, 0.0, 2, [0.5, 1.0]),
    (4, 0.0, 2, [0.25, 0.5]),
    (0, 0.0, 1, [1.0]),
    (1, 0.0, 2, [1.0, 1.0]),
]


@pytest.mark.parametrize(("warmup", "floor", "steps", "rates"), RATES, ids=str)
@pytest.mark.parametrize("peak", [1.0, 3e-3])
def test_learning_rate_table(warmup, floor, steps, rates, peak):
    config = OptimConfig(lr=peak, warmup_steps=warmup, min_lr_ratio=floor)
    found = [learning_rate(step, steps, config) for step in range(steps)]
    assert found == pytest.approx([peak * rate for rate in rates])


@given(st.integers(0, 40), st.integers(1, 200), st.floats(0, 1))
def test_the_rate_rises_then_falls_between_zero_and_its_peak(warmup, steps, floor):
    config = OptimConfig(lr=2.0, warmup_steps=warmup, min_lr_ratio=floor)
    rates = [learning_rate(step, steps, config) for step in range(steps)]
    assert all(0 < rate <= 2.0 + 1e-12 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(rate >= 2.0 * floor - 1e-12 for rate in rates[warmup:])


@pytest.mark.parametrize("floor", [0.0, 0.03, 1.0])
def test_the_cosine_ends_at_its_floor(floor):
    config = OptimConfig(lr=2.0, warmup_steps=10, min_lr_ratio=floor)
    assert learning_rate(100, 100, config) == pytest.approx(2.0 * floor)
