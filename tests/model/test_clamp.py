"""Forced and forbidden patterns on real forwards: exactly where the table says, in every layer asked for, and nowhere else."""

import dataclasses

import pytest
import torch

from playground.config import ClampConfig, select_heads
from playground.model.clamp import apply_clamp, frozen_slices
from playground.model.patterns import match_mask, previous_token_mask
from playground.probes.attention_scores import attention_patterns
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, random_tokens, small_config, small_model

PATTERNS = {"previous_token": previous_token_mask, "induction": lambda tokens: match_mask(tokens, 1)}


def clamped(seed: int = 0, model: dict | None = None, **clamp):
    return apply_clamp(small_model(seed, **(model or {"n_future": 2})), ClampConfig(**clamp))


def test_the_table_of_the_docstring():
    tokens = torch.tensor([[7, 2, 7]])
    for pattern, forced in (
        ("previous_token", [[1, 0, 0], [1, 0, 0], [0, 1, 0]]),
        ("induction", [[1, 0, 0], [1, 0, 0], [0, 1, 0]]),
    ):
        found = attention_patterns(clamped(**{f"force_{pattern}": ("all",)}), tokens)
        assert all(torch.equal(layer[0, 0], torch.tensor(forced).float()) for layer in found.values())
    found = attention_patterns(clamped(forbid_previous_token=("all",)), tokens)
    assert all((layer[0, :, [1, 2], [0, 1]] == 0).all() and layer[0, 0, 2, 0] > 0 for layer in found.values())
    found = attention_patterns(clamped(forbid_induction=("all",)), tokens)
    assert all((layer[0, :, 2, 1] == 0).all() and layer[0, 0, 1, 0] > 0 for layer in found.values())


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_forbidden_keys_get_nothing_and_the_rest_keeps_its_proportions(pattern, options):
    tokens = random_tokens(rows=6, d_vocab=3)  # three tokens: queries from which everything is forbidden occur
    model = clamped(model={"n_future": 2, **options}, **{f"forbid_{pattern}": ("blocks.0",)})
    free = attention_patterns(small_model(n_future=2, **options), tokens)["blocks.0"]
    held = attention_patterns(model, tokens)["blocks.0"]
    mask = PATTERNS[pattern](tokens).unsqueeze(1)
    left = free.masked_fill(mask, 0)
    only_itself = (left.sum(dim=-1, keepdim=True) == 0) & torch.eye(12, dtype=torch.bool)
    expected = (left + only_itself) / (left + only_itself).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(held, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_every_layer_with_attention_is_held_whatever_the_type_of_the_future_heads(kind):
    tokens, options = random_tokens(rows=6, d_vocab=4), {"n_layers": 5, "n_future": 3, "future_heads": kind}
    model = clamped(model=options, forbid_induction=("all",), force_previous_token=("blocks.0.1",))
    found = attention_patterns(model, tokens)
    assert tuple(found) == model.config.attention_layers
    mask = match_mask(tokens, 1)[:, None] & ~torch.eye(12, dtype=torch.bool)
    free = (pattern for name, pattern in found.items() if name != "blocks.0")
    assert all((pattern.masked_select(mask) == 0).all() for pattern in free)
    assert torch.equal(found["blocks.0"][:, 1, 1:].argmax(dim=-1), torch.arange(11).expand(6, -1))


def test_both_patterns_forbidden_never_leave_a_query_with_nothing():
    tokens = torch.zeros(2, 12, dtype=torch.long)
    model = clamped(forbid_previous_token=("all",), forbid_induction=("all",))
    assert model(tokens, (1, 2)).isfinite().all()


def test_forced_heads_look_at_their_target_and_others_are_free():
    tokens = random_tokens(rows=6, d_vocab=4)
    model = clamped(force_previous_token=("blocks.0.1",), force_induction=("future_heads.0",))
    found, free = (attention_patterns(each, tokens) for each in (model, small_model(n_future=2)))
    assert torch.equal(found["blocks.0"][:, 0], free["blocks.0"][:, 0])
    previous = found["blocks.0"][:, 1]
    assert (previous[:, torch.arange(1, 12), torch.arange(11)] == 1).all() and (previous[:, 0, 0] == 1).all()
    mask = match_mask(tokens, 1)
    share = (found["future_heads.0"] * mask[:, None]).sum(dim=-1)
    assert torch.allclose(share, mask.any(dim=-1)[:, None].float().expand_as(share), atol=1e-6)
    assert (found["future_heads.0"].sum(dim=-1) - 1).abs().max() < 1e-6


def test_the_clamp_holds_in_training_and_after_hooks_are_reset_and_gradients_flow():
    model = clamped(forbid_previous_token=("all",)).train()
    model.reset_hooks()
    tokens = random_tokens()
    model(tokens).sum().backward()
    assert model.blocks[0].attn.qkv.weight.grad.isfinite().all()
    assert (attention_patterns(model, tokens)["blocks.0"][:, :, 5, 4] == 0).all()


@pytest.mark.parametrize("kind", ["forbid", "force"])
def test_later_layers_alone_run_on_other_rows_where_the_pattern_does_not_depend_on_them(kind):
    model, tokens = clamped(**{f"{kind}_previous_token": ("all",)}), random_tokens(rows=4)
    z = model.trunk(tokens)
    expected = model.future_resid(z, 1)
    model.trunk(random_tokens(rows=2, seed=1))
    torch.testing.assert_close(model.future_resid(z[1:, :7], 1), expected[1:, :7])


@pytest.mark.parametrize("kind", ["forbid", "force"])
def test_later_layers_need_the_tokens_of_their_rows_where_the_pattern_depends_on_them(kind):
    model, tokens = clamped(**{f"{kind}_induction": ("all",)}), random_tokens(rows=4, d_vocab=3)
    z = model.trunk(tokens)
    expected = model.future_resid(z, 1)
    model.trunk(random_tokens(rows=2, seed=1))
    with pytest.raises(ValueError, match=r"ran on 3 rows of 7 tokens.*\(2, 12\).*model.embed"):
        model.future_resid(z[1:, :7], 1)
    model.embed(tokens[1:, :7])
    torch.testing.assert_close(model.future_resid(z[1:, :7], 1), expected[1:, :7])
    assert model.future_resid(z[:, :1], 1).isfinite().all()  # a row of one token has no earlier one


def test_a_layer_before_any_tokens_is_refused_too():
    with pytest.raises(ValueError, match=r"\(0, 0\)"):
        clamped(forbid_induction=("all",)).future_resid(torch.zeros(1, 5, 16), 1)


def test_an_empty_clamp_changes_nothing():
    model = clamped()
    assert not any(point.fwd_hooks for point in model.hook_points())
    assert torch.equal(model(random_tokens()), small_model(n_future=2)(random_tokens()))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("all",), {"blocks.0": [0, 1], "future_heads.0": [0, 1], "future_heads.1": [0, 1]}),
        (("trunk",), {"blocks.0": [0, 1]}),
        (("blocks.0.1", "blocks.0.1"), {"blocks.0": [1]}),
        (("future_heads.1",), {"future_heads.1": [0, 1]}),
        ((), {}),
    ],
)
def test_names_choose_heads(names, chosen):
    assert select_heads(names, small_config(n_future=2)) == chosen


@pytest.mark.parametrize("name", ["blocks.3", "blocks.0.2", "head 1", "", "future_heads.1"])
def test_a_name_that_chooses_nothing_is_refused_with_those_that_do(name):
    with pytest.raises(ValueError, match=r"names no attention head of this model; write all, trunk, one of blocks\.0"):
        ClampConfig(freeze_heads=(name,)).check(small_config(n_future=1))


def test_a_head_forced_to_two_things_is_refused():
    with pytest.raises(ValueError, match=r"both name head blocks.0.1"):
        ClampConfig(force_previous_token=("blocks.0.1",), force_induction=("all",)).check(small_config())


def test_frozen_entries_are_the_weights_of_those_heads():
    model = small_model(n_future=2)
    slices = frozen_slices(model, ClampConfig(freeze_heads=("blocks.0.1",)))
    (qkv, qkv_mask), (out, out_mask) = slices
    attention = model.blocks[0].attn
    assert qkv is attention.qkv.weight and out is attention.out.weight
    with torch.no_grad():
        qkv[qkv_mask] = 0
        out[out_mask] = 0
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        weights = getattr(attention, name)
        assert (weights[1] == 0).all() and (weights[0] != 0).all()


def test_config_round_trip_keeps_the_clamp():
    clamp = ClampConfig(forbid_induction=("all",), freeze_heads=("blocks.0.1",))
    assert ClampConfig(**dataclasses.asdict(clamp)) == clamp
