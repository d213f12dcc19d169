"""Equal logits for every option, sabotage that the comparison must catch, refusals, and the promise to leave no trace."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformer_lens import TransformerBridgeConfig

from playground.model import export
from playground.model.export import export_to_transformer_lens
from playground.model.transformer import MTPTransformer
from tests.cases import MODEL_OPTIONS, random_tokens, small_model

WITHIN = 1e-4
SHAPES = [{"control": "layers", "n_layers": 3, "n_future": 2}, {"control": "trunk", "n_layers": 2, "n_future": 2}]
ODD = {"eps": 3e-3, "rotary_base": 123.5}


def lively_model(**changes) -> MTPTransformer:
    """A model in which a wrong detail shows: norms that are not the identity, and weights twice as large as usual.

    In double precision: single precision's rounding, 1e-4 in such a model, differs from one processor to the next.
    """
    model, generator = small_model(**changes), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 2)
            else:
                parameter.mul_(2)
    return model.double()


def _difference(model: MTPTransformer, bridge: Callable[[Tensor], Tensor], offset: int = 1) -> float:
    tokens = random_tokens()
    with torch.no_grad():
        return (bridge(tokens) - model(tokens, offsets=(offset,))[:, :, 0]).abs().max().item()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["control"])
@pytest.mark.parametrize("details", [{}, ODD], ids=["usual", "odd"])
@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
def test_logits_are_those_of_the_offset_for_every_option(options, details, shape):
    model = lively_model(**options, **details, **shape)
    for offset in range(1, model.n_future + 1):
        bridge = export_to_transformer_lens(model, offset)
        assert _difference(model, bridge, offset) < WITHIN
        assert bridge.cfg.n_layers == len(model.blocks) + 1


@pytest.mark.parametrize("unembedding", ["shared", "replicated"])
@pytest.mark.parametrize("kind", ["independent", "causal", "anticausal"])
def test_a_path_through_several_future_heads_is_a_deeper_transformer(kind, unembedding):
    model = lively_model(n_layers=5, n_future=3, future_heads=kind, unembedding=unembedding)
    for offset in (1, 2, 3):
        bridge = export_to_transformer_lens(model, offset)
        assert _difference(model, bridge, offset) < WITHIN
        assert bridge.cfg.n_layers == len(model.blocks) + len(model.path(offset))


@pytest.mark.parametrize(
    ("kind", "offset", "says"),
    [
        ("linear", 1, "offset 1 is no plain layer but of the type 'linear'.*another type of future heads"),
        ("medusa_mlp", 2, "offset 2 is no plain layer.*write offset=1"),
        ("medusa_linear", 3, "offset 3 is no plain layer"),
        ("sequential", 3, "offset 2 is no plain layer but of the type 'sequential'.*write offset=1"),
    ],
)
def test_what_is_no_plain_layer_is_refused_and_offset_1_is_not(kind, offset, says):
    model = lively_model(n_layers=5, n_future=3, future_heads=kind)
    with pytest.raises(ValueError, match=says):
        export_to_transformer_lens(model, offset)
    if kind != "linear":
        assert _difference(model, export_to_transformer_lens(model)) < WITHIN


@pytest.mark.parametrize(
    "options",
    [
        {"control": "trunk", "n_layers": 1},
        {"n_heads": 1},
        {"n_heads": 16, "positions": "standard"},
        {"n_heads": 8},
        {"n_ctx": 512, "n_layers": 2, "d_model": 64, "rotary_base": 500_000.0},
    ],
    ids=str,
)
def test_extreme_shapes(options):
    model = lively_model(**options)
    bridge = export_to_transformer_lens(model)
    tokens = random_tokens(rows=1, length=model.n_ctx)
    with torch.no_grad():
        assert (bridge(tokens) - model(tokens)).abs().max() < WITHIN


def test_angles_and_their_base_are_ours():
    """The library cuts the base to a whole number and computes the angles in single precision."""
    model = lively_model(n_ctx=4096, rotary_base=500.5)
    bridge = export_to_transformer_lens(model)
    assert bridge.cfg.rotary_base == 500.5
    assert torch.equal(bridge.original_model.get_buffer("rotary.cos_cached")[:, ::2], model.rotary(4096)[0][:, ::2])
    assert torch.equal(bridge.original_model.get_buffer("rotary.sin_cached")[:, 1::2], model.rotary(4096)[1][:, 1::2])


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"normalization": "RMS"}, {"eps": 1e-4}),
        ({"normalization": "LN"}, {"eps": 1e-4}),
        ({"mlp": "gelu"}, {"act_fn": "gelu_new"}),
        ({"mlp": "gated"}, {"act_fn": "gelu"}),
        ({"normalization": "RMS"}, {"normalization_type": "LN", "final_rms": False}),
        ({}, {"final_rms": True, "normalization_type": "LN"}),
        ({"positions": "rotary"}, {"rotary_dim": 4}),
        ({}, {"attention_dir": "bidirectional"}),
    ],
    ids=str,
)
def test_a_wrong_configuration_shows(options, wrong, monkeypatch):
    monkeypatch.setattr(export, "_copy_rotation", lambda model, bridge: None)
    monkeypatch.setattr(export, "TransformerBridgeConfig", lambda **given: TransformerBridgeConfig(**(given | wrong)))
    model = lively_model(**options)
    assert _difference(model, export_to_transformer_lens(model)) > 2 * WITHIN


def _halves(weight: Tensor) -> Tensor:
    """Rows of every head (two, of width 8) from adjacent pairs to the first and the second half, as Llama has them."""
    return weight.unflatten(0, (2, 4, 2)).transpose(1, 2).flatten(0, 2)


@pytest.mark.parametrize(("options", "change"), [
    ({}, lambda w: {f"blocks.0.attn.{name}.weight": _halves(w[f"blocks.0.attn.{name}.weight"]) for name in "qk"}),
    ({}, lambda w: {"blocks.0.attn.q.weight": w["blocks.0.attn.k.weight"], "blocks.0.attn.k.weight": w["blocks.0.attn.q.weight"]}),
    ({}, lambda w: {"blocks.0.attn.o.weight": w["blocks.0.attn.o.weight"].T}),
    ({}, lambda w: {"blocks.1.mlp.gate.weight": w["blocks.1.mlp.in.weight"], "blocks.1.mlp.in.weight": w["blocks.1.mlp.gate.weight"]}),
    ({"normalization": "LN"}, lambda w: {"blocks.1.ln2.bias": torch.zeros(16)}),
    ({"normalization": "LN"}, lambda w: {"ln_final.bias": torch.zeros(16)}),
    ({}, lambda w: {"ln_final.weight": torch.ones(16)}),
    ({"mlp": "gelu"}, lambda w: {"blocks.0.mlp.out.bias": torch.full((16,), 0.01)}),
    ({"positions": "standard"}, lambda w: {"pos_embed.weight": w["pos_embed.weight"].roll(1, dims=0)}),
], ids=["llama_rotation", "q_for_k", "o_transposed", "gate_for_in", "no_ln_bias", "no_final_bias", "no_final_weight", "mlp_bias", "positions"])  # fmt: skip
def test_a_wrong_weight_shows(options, change):
    model = lively_model(**options)
    bridge = export_to_transformer_lens(model)
    weights = {name: value.clone() for name, value in bridge.state_dict().items()}
    bridge.load_state_dict(weights | change(weights))
    assert _difference(model, bridge) > 2 * WITHIN


def test_another_offset_shows():
    model = lively_model(n_future=2)
    assert _difference(model, export_to_transformer_lens(model, 2), offset=1) > 0.1


def test_the_models_heads_are_counted_whole():
    model = lively_model(n_future=2, normalization="LN", mlp="gelu")
    state = export_to_transformer_lens(model).state_dict()
    ours = sum(value.numel() for name, value in model.named_parameters() if not name.startswith("future_heads.1."))
    added = {name: value for name, value in state.items() if name.endswith("bias") and ".ln" not in f".{name}"}
    assert sum(value.numel() for value in state.values()) == ours + sum(value.numel() for value in added.values())
    assert not any(value.any() for value in added.values())


@pytest.mark.parametrize("offset", [0, 3, -1])
def test_an_offset_without_a_head_is_refused_in_the_models_words(offset):
    model = small_model(n_future=2)
    with pytest.raises(ValueError, match="offset is") as expected:
        model.future_resid(torch.zeros(1, 2, 16), offset)
    with pytest.raises(ValueError, match="offset is") as refused:
        export_to_transformer_lens(model, offset)
    assert str(refused.value) == str(expected.value)


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
@pytest.mark.parametrize(
    "name",
    [
        "hook_embed",
        "blocks.0.attn.hook_pattern",
        "hook_trunk",
        "future_heads.1.mlp.hook_post",
        "ln_final.hook_scale",
    ],
)
def test_a_model_with_hooks_on_the_path_is_refused(name, direction, permanent):
    model = small_model(n_future=2)
    model.add_hook(name, lambda value, hook: None, dir=direction, is_permanent=permanent)
    with pytest.raises(ValueError, match=rf"hooks on {name},.*reset_hooks\(including_permanent=True\).*unclamped"):
        export_to_transformer_lens(model, 2)


def test_a_model_is_exported_once_its_hooks_are_removed():
    model = small_model()
    model.add_perma_hook("blocks.0.attn.hook_pattern", lambda pattern, hook: pattern * 0)
    model.reset_hooks(including_permanent=True)
    assert _difference(model, export_to_transformer_lens(model)) < WITHIN


def test_hooks_on_another_future_head_do_not_matter():
    model = small_model(n_future=2)
    model.add_perma_hook("future_heads.0.attn.hook_pattern", lambda pattern, hook: pattern * 0)
    assert _difference(model, export_to_transformer_lens(model, 2), offset=2) < WITHIN
    with pytest.raises(ValueError, match=r"hooks on future_heads\.0"):
        export_to_transformer_lens(model, 1)


@pytest.mark.parametrize("training", [True, False])
def test_the_export_leaves_no_trace(training):
    model, tokens = lively_model().train(training), random_tokens()
    model.W_E.requires_grad_(False)
    before, weights = model(tokens), {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    bridge = export_to_transformer_lens(model)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert model.training is training and not bridge.training and not any(m.training for m in bridge.modules())
    with torch.no_grad():
        for value in [*bridge.parameters(), *bridge.original_model.buffers()]:
            value.zero_()
    assert torch.equal(model(tokens), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ["embed.weight"]
    assert all(value.grad is None for value in model.parameters())
    assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_points())


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_bridge_has_the_models_precision(dtype, within):
    model = lively_model().to(dtype)
    bridge = export_to_transformer_lens(model)
    assert bridge.W_E.dtype == bridge.cfg.dtype == bridge(random_tokens()).dtype == dtype
    logits = model(random_tokens())
    assert (bridge(random_tokens()) - logits).abs().mean() < within * logits.abs().mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_bridge_is_on_the_models_device():
    model = lively_model().cuda()
    bridge = export_to_transformer_lens(model)
    assert bridge.W_E.device == model.W_E.device and bridge.cfg.device == str(model.W_E.device)
    assert (bridge(random_tokens().cuda()) - model(random_tokens().cuda())).abs().max() < WITHIN
