"""The model: attention against an independent formula, fused against explicit, hooks, compile and vmap, init."""

import math

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from playground.config import ModelConfig
from playground.model.layers import rotate
from playground.model.transformer import MTPTransformer
from tests.cases import MODEL_OPTIONS, random_tokens, small_config, small_model

OFFSETS = (1, 2)


def _reference(model: MTPTransformer, tokens: torch.Tensor, offset: int) -> torch.Tensor:
    """The whole model written once more, one row and one head at a time, in float64."""
    config, p = model.config, {name: value.double() for name, value in model.state_dict().items()}

    def norm(x, name):
        if config.normalization == "LN":
            x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + config.eps) * p[f"{name}.weight"]
        return x + p[f"{name}.bias"] if config.normalization == "LN" else x

    def turn(x):
        if config.positions != "rotary":
            return x
        out = torch.empty_like(x)
        for t in range(x.shape[0]):
            for i in range(config.d_head // 2):
                angle = t * config.rotary_base ** (-2 * i / config.d_head)
                a, b = x[t, 2 * i], x[t, 2 * i + 1]
                out[t, 2 * i] = a * math.cos(angle) - b * math.sin(angle)
                out[t, 2 * i + 1] = a * math.sin(angle) + b * math.cos(angle)
        return out

    def attention(x, name):
        q, k, v = (x @ p[f"{name}.qkv.weight"].T).chunk(3, dim=-1)
        parts = []
        for h in range(config.n_heads):
            cut = slice(h * config.d_head, (h + 1) * config.d_head)
            scores = turn(q[:, cut]) @ turn(k[:, cut]).T / math.sqrt(config.d_head)
            scores = scores + torch.full_like(scores, -torch.inf).triu(1)
            parts.append(scores.softmax(-1) @ v[:, cut])
        return torch.cat(parts, -1) @ p[f"{name}.out.weight"].T

    def mlp(x, name):
        if config.mlp == "gated":
            gate, linear = (x @ p[f"{name}.gate_in.weight"].T).chunk(2, -1)
            hidden = gate * torch.sigmoid(gate) * linear
        else:
            pre = x @ p[f"{name}.linear_in.weight"].T
            hidden = pre * 0.5 * (1 + torch.erf(pre / math.sqrt(2)))
        return hidden @ p[f"{name}.out.weight"].T

    def block(x, name):
        x = x + attention(norm(x, f"{name}.ln1"), f"{name}.attn")
        return x if config.mlp == "none" else x + mlp(norm(x, f"{name}.ln2"), f"{name}.mlp")

    rows = []
    for row in tokens:
        x = p["embed.weight"][row]
        if config.positions == "standard":
            x = x + p["pos_embed.weight"][: len(row)]
        for layer in range(config.n_trunk_layers):
            x = block(x, f"blocks.{layer}")
        x = block(x, f"future_heads.{offset - 1}")
        rows.append(norm(x, "ln_final") @ p["unembed.weight"].T)
    return torch.stack(rows)


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_logits_equal_an_independent_implementation(options):
    model, tokens = small_model(n_future=2, **options), random_tokens()
    logits = model(tokens, OFFSETS)
    assert logits.shape == (3, 12, 2, 11)
    for index, offset in enumerate(OFFSETS):
        torch.testing.assert_close(
            logits[:, :, index].double(), _reference(model, tokens, offset), rtol=1e-4, atol=1e-5
        )
    torch.testing.assert_close(model(tokens), logits[:, :, 0])


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_fused_equals_explicit_in_outputs_and_gradients(options):
    model, tokens = small_model(n_future=2, **options), random_tokens()
    results = []
    for hooks in ([], [(lambda name: "hook_" in name, lambda activation, hook: activation)]):
        model.zero_grad()
        logits = model.run_with_hooks(tokens, OFFSETS, fwd_hooks=hooks)
        logits.square().mean().backward()
        results.append((logits, [parameter.grad.clone() for parameter in model.parameters()]))
    (fused, fused_gradients), (explicit, explicit_gradients) = results
    torch.testing.assert_close(fused, explicit, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(fused_gradients, explicit_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_the_future_never_leaks_into_the_past():
    model, tokens = small_model(n_future=2), random_tokens()
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    before, after = model(tokens, OFFSETS), model(changed, OFFSETS)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_offsets_come_in_the_order_asked_for():
    model, tokens = small_model(n_future=2), random_tokens()
    torch.testing.assert_close(model(tokens, (2, 1)), model(tokens, (1, 2)).flip(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_model()(random_tokens(length=13)), "longer than the model's context of 12"),
        (lambda: small_model()(random_tokens(), (2,)), "offset is 2, and the model predicts the offsets 1 to 1"),
        (lambda: MTPTransformer(ModelConfig()), r"write ModelConfig\(d_vocab=..., n_ctx=...\)"),
    ],
)
def test_errors_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- hooks --------------------------------------------------------------------------------------------------------


def test_cache_has_transformer_lens_names_for_trunk_and_future_heads():
    model, tokens = small_model(n_future=2), random_tokens()
    logits, cache = model.run_with_cache(tokens, OFFSETS)
    torch.testing.assert_close(logits, model(tokens, OFFSETS), rtol=1e-4, atol=1e-5)
    for layer in ("blocks.0", "future_heads.0", "future_heads.1"):
        assert cache[f"{layer}.attn.hook_pattern"].shape == (3, 2, 12, 12)
        assert cache[f"{layer}.attn.hook_z"].shape == (3, 12, 2, 8)
        torch.testing.assert_close(cache[f"{layer}.attn.hook_pattern"].sum(-1), torch.ones(3, 2, 12))
    assert cache["hook_trunk"].shape == (3, 12, 16)
    torch.testing.assert_close(cache["hook_trunk"], cache["future_heads.0.hook_resid_pre"])
    assert not any(point.fwd_hooks for point in model.hook_points())


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn.hook_pattern",
        "blocks.0.attn.hook_attn_scores",
        "blocks.0.attn.hook_z",
        "future_heads.1.attn.hook_pattern",
        "ln_final.hook_scale",
        "hook_embed",
    ],
)
def test_editing_an_activation_changes_the_logits(name):
    model, tokens = small_model(n_future=2), random_tokens()
    edited = model.run_with_hooks(tokens, OFFSETS, fwd_hooks=[(name, lambda activation, hook: activation * 0.5)])
    assert not torch.allclose(edited, model(tokens, OFFSETS))


def test_backward_hooks_see_the_pattern_gradient():
    model, tokens = small_model(), random_tokens()
    seen = {}
    model.add_hook("blocks.0.attn.hook_pattern", lambda gradient, hook: seen.update({hook.name: gradient}), dir="bwd")
    model(tokens).square().mean().backward()
    model.reset_hooks()
    assert seen["blocks.0.attn.hook_pattern"].abs().sum() > 0


def test_weights_per_head_rebuild_the_attention_output():
    model, tokens = small_model(), random_tokens()
    _, cache = model.run_with_cache(tokens)
    attention = model.blocks[0].attn
    x = cache["blocks.0.ln1.hook_normalized"] * model.blocks[0].ln1.weight
    torch.testing.assert_close(torch.einsum("btd,hde->bthe", x, attention.W_V), cache["blocks.0.attn.hook_v"])
    torch.testing.assert_close(torch.einsum("btd,hde->bthe", x, attention.W_Q), cache["blocks.0.attn.hook_q"])
    out = torch.einsum("bthe,hed->btd", cache["blocks.0.attn.hook_z"], attention.W_O)
    torch.testing.assert_close(out, cache["blocks.0.hook_attn_out"])


def test_rotation_depends_on_the_distance_alone():
    model = small_model()
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    cos, sin = model.rotary(12)
    at = [[rotate(x, (cos[t : t + 1], sin[t : t + 1])).flatten() for t in range(12)] for x in (q, k)]
    torch.testing.assert_close(at[0][5] @ at[1][2], at[0][11] @ at[1][8])
    assert not torch.allclose(at[0][5] @ at[1][2], at[0][5] @ at[1][3])


# --- torch.func and torch.compile ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_stacked_models_under_vmap_equal_each_alone():
    models, tokens = [small_model(seed, n_future=2) for seed in range(3)], random_tokens()
    parameters, buffers = stack_module_state(models)

    def one(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (tokens, OFFSETS))

    together = vmap(one)(parameters, buffers)
    for row, model in enumerate(models):
        torch.testing.assert_close(together[row], model(tokens, OFFSETS), rtol=1e-4, atol=1e-5)


def test_compiled_model_equals_eager():
    model, tokens = small_model(n_future=2), random_tokens()
    out = torch.compile(model, fullgraph=True, backend="aot_eager")(tokens, OFFSETS)
    torch.testing.assert_close(out, model(tokens, OFFSETS), rtol=1e-4, atol=1e-5)
    out.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# --- initial weights ----------------------------------------------------------------------------------------------


def test_initial_weights_follow_the_table():
    model = MTPTransformer(small_config(d_model=256, n_heads=4, n_layers=4, d_vocab=500, mlp="gelu"))
    expected = {
        "embed.weight": 1 / 16,
        "blocks.0.attn.qkv.weight": 1 / 16,
        "blocks.1.mlp.linear_in.weight": 1 / 16,
        "blocks.0.attn.out.weight": 1 / math.sqrt(256 * 8),
        "future_heads.0.mlp.out.weight": 1 / math.sqrt(1024 * 8),
        "unembed.weight": 1 / 16,
    }
    parameters = dict(model.named_parameters())
    for name, std in expected.items():
        assert parameters[name].std().item() == pytest.approx(std, rel=0.03)
        assert abs(parameters[name].mean().item()) < std / 50
    assert parameters["blocks.0.ln1.weight"].eq(1).all()


def test_same_generator_seed_same_weights():
    for ours, theirs in zip(small_model(3).parameters(), small_model(3).parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(small_model(3).W_E, small_model(4).W_E)
