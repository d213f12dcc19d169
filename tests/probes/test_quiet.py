"""Quiet runs: evaluation mode, no gradients, own hooks, and everything as before afterwards, errors or not."""

import pytest
import torch

from playground.probes.quiet import all_offsets, editing, layer_names, quietly
from tests.cases import random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


def _modes(model):
    return [module.training for module in model.modules()]


def _hooks(model):
    return sum(len(point.fwd_hooks) for point in model.hook_points())


def test_inside_it_is_quiet_and_outside_as_before():
    model = small_model(n_future=2).train()
    model.blocks[0].eval()  # one part in another mode
    before = _modes(model)
    with leaves_no_trace(model), quietly(model, [("hook_trunk", editing(lambda z: 0 * z))]):
        assert not any(_modes(model)) and not torch.is_grad_enabled()
        assert not model(random_tokens()).requires_grad
        assert model.trunk(random_tokens()).abs().sum() == 0
    assert _modes(model) == before and len(set(before)) == 2


def test_an_error_inside_leaves_no_trace_either():
    model = small_model().train()

    def broken(activation, hook):
        raise RuntimeError("in a hook")

    with leaves_no_trace(model), pytest.raises(RuntimeError, match="in a hook"):
        with quietly(model, [("hook_trunk", broken)]):
            model(random_tokens())
    assert all(_modes(model)) and torch.is_grad_enabled()


def test_nested_hooks_all_act_and_the_outer_ones_go_first():
    model, tokens = small_model(), random_tokens()
    plain = model.trunk(tokens)
    with quietly(model, [("hook_trunk", editing(lambda z: 2 * z))]):
        with quietly(model, [(lambda name: name == "hook_trunk", editing(lambda z: z + 1))]):
            torch.testing.assert_close(model.trunk(tokens), 2 * plain + 1)
        torch.testing.assert_close(model.trunk(tokens), 2 * plain)
    assert _hooks(model) == 0


def test_gradients_where_asked_for():
    model = small_model()
    with quietly(model, gradients=True):
        assert model(random_tokens()).requires_grad and not model.training


def test_a_listening_hook_changes_nothing():
    model, seen = small_model(), []
    with quietly(model, [("hook_trunk", lambda z, hook: seen.append(hook.name))]):
        logits = model(random_tokens())
    assert seen == ["hook_trunk"] and torch.equal(logits, model(random_tokens()))


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"n_future": 2}, ("blocks.0", "future_heads.0", "future_heads.1")),
        ({"n_layers": 1, "control": "trunk"}, ("future_heads.0",)),
    ],
)
def test_names_of_layers_and_offsets(options, layers):
    model = small_model(**options)
    assert layer_names(model) == layers
    assert all_offsets(model) == tuple(range(1, model.n_future + 1))
