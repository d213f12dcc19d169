"""The library's own tools on an export: what they read is what our model computes, and the traps are as documented."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens import FactoredMatrix, SVDInterpreter, evals, head_detector, patching

from playground.model.export import export_to_transformer_lens
from playground.model.patterns import match_mask, previous_token_mask
from playground.model.transformer import MTPTransformer
from playground.probes.attention_scores import attention_patterns, masked_attention
from playground.probes.composition import composition
from tests.cases import random_tokens
from tests.model.test_export import lively_model

OFFSET = 2
LAYERS = ("blocks.0", "blocks.1", "future_heads.1")
"""Our names of the exported layers; the bridge's are blocks.0 to blocks.2."""
TOKENS, OTHER_TOKENS = random_tokens(d_vocab=5, length=7), random_tokens(d_vocab=5, length=7, seed=1)
KINDS = {
    "gated": {"normalization": "RMS", "positions": "rotary", "mlp": "gated"},
    "gelu": {"normalization": "LN", "positions": "standard", "mlp": "gelu"},
    "attention_only": {"normalization": "LN", "positions": "rotary", "mlp": "none"},
}


class Exported:
    """A model, its export, and what both compute for `TOKENS`; the last layer is the bridge's `blocks.2`."""

    def __init__(self, **options) -> None:
        self.model: MTPTransformer = lively_model(n_layers=4, n_future=2, **options)
        self.bridge = export_to_transformer_lens(self.model, OFFSET)
        with torch.no_grad():
            self.logits, ours = self.model.run_with_cache(TOKENS, offsets=(OFFSET,))
            self.theirs, self.cache = self.bridge.run_with_cache(TOKENS)
        self.logits = self.logits[:, :, 0]
        self.ours = {name: value for name, value in ours.items() if not name.startswith("future_heads.0")}

    def attention(self, name: str = "hook_attn_out") -> list[Tensor]:
        """An activation of each exported layer, of our model."""
        return [self.ours[f"{layer}.{name}"] for layer in LAYERS]

    def bare(self):
        """A new export, to change."""
        return export_to_transformer_lens(self.model, OFFSET)


@pytest.fixture(scope="module")
def exports() -> dict[str, Exported]:
    return {name: Exported(**options) for name, options in KINDS.items()}


@pytest.fixture(params=list(KINDS))
def exported(request, exports) -> Exported:
    return exports[request.param]


@pytest.fixture
def gated(exports) -> Exported:
    return exports["gated"]


@pytest.fixture
def attention_only(exports) -> Exported:
    return exports["attention_only"]


def _close(left: Tensor, right: Tensor, within: float = 1e-4) -> bool:
    return left.shape == right.shape and (left - right).abs().max().item() < within


def _their_name(name: str) -> str:
    return "blocks.2.hook_resid_pre" if name == "hook_trunk" else name.replace("future_heads.1", "blocks.2")


# What the table says of the names


def test_every_activation_of_ours_is_there_under_the_name_in_the_table(exported):
    compared = 0
    for name, value in exported.ours.items():
        if name.endswith(("hook_rot_q", "hook_rot_k", "hook_attn_scores")):
            continue
        if name.startswith("ln_final"):  # once for each offset asked for
            value = value[:, :, 0]
        assert _close(exported.cache[_their_name(name)], value), name
        compared += 1
    assert compared >= 3 * 9


def test_weights_are_ours_per_head(exported):
    blocks = [*exported.model.blocks, exported.model.future_heads[1]]
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        ours = torch.stack([getattr(block.attn, name) for block in blocks])
        assert torch.equal(getattr(exported.bridge, name), ours)
        assert torch.equal(getattr(exported.bridge.blocks[2].attn, name), ours[2])
    assert torch.equal(exported.bridge.W_E, exported.model.W_E)
    assert torch.equal(exported.bridge.W_U, exported.model.W_U)


def test_patterns_are_those_of_our_probe(exported):
    patterns = attention_patterns(exported.model, TOKENS)
    for theirs, layer in enumerate(LAYERS):
        assert _close(exported.cache["pattern", theirs], patterns[layer])


@pytest.mark.filterwarnings("ignore:A forward hook edited hook_scale")
@pytest.mark.parametrize(
    "name",
    [
        "hook_embed",
        "blocks.1.hook_resid_pre",
        "blocks.1.ln1.hook_normalized",
        "blocks.1.attn.hook_q",
        "blocks.1.attn.hook_k",
        "blocks.0.attn.hook_v",
        "future_heads.1.attn.hook_pattern",
        "future_heads.1.attn.hook_z",
        "blocks.0.hook_attn_out",
        "blocks.0.mlp.hook_pre",
        "blocks.0.mlp.hook_post",
        "blocks.0.hook_mlp_out",
        "future_heads.1.hook_resid_post",
        "ln_final.hook_scale",
    ],
)
def test_edits_do_what_they_do_in_our_model(gated, name):
    def edit(value: Tensor, hook: object) -> Tensor:
        return value * torch.linspace(0.5, 1.5, value.shape[-1])

    ours = gated.model.run_with_hooks(TOKENS, offsets=(OFFSET,), fwd_hooks=[(name, edit)])[:, :, 0]
    theirs = gated.bridge.run_with_hooks(TOKENS, fwd_hooks=[(_their_name(name), edit)])
    assert _close(theirs, ours)
    assert not _close(ours, gated.logits, within=1e-3)


def test_gradients_are_ours(gated):
    gradients = []
    for model, options in ((gated.model, {"offsets": (OFFSET,)}), (gated.bridge, {})):
        kept: list[Tensor] = []
        with model.hooks(
            bwd_hooks=[("blocks.1.hook_resid_pre", lambda grad, hook, kept=kept: kept.append(grad.clone()))]
        ):
            model(TOKENS, **options)[0, -1].flatten()[3].backward()
        gradients.append(kept[0])
        model.zero_grad()
    assert _close(*gradients)
    assert gradients[0].abs().max() > 1e-2


# The cache's tools


def test_decompose_resid_is_embedding_plus_our_layers_outputs(exported):
    stack, labels = exported.cache.decompose_resid(return_labels=True)
    expected = [exported.ours["hook_embed"]]
    if "hook_pos_embed" in exported.ours:
        expected.append(exported.ours["hook_pos_embed"])
    for layer in LAYERS:
        expected += [
            value
            for name, value in exported.ours.items()
            if name in (f"{layer}.hook_attn_out", f"{layer}.hook_mlp_out")
        ]
    assert len(labels) == len(expected)
    assert _close(stack, torch.stack(expected))
    assert _close(stack.sum(dim=0), exported.attention("hook_resid_post")[-1])


def test_accumulated_resid_is_our_stream_and_the_last_lens_our_logits(exported):
    stack, labels = exported.cache.accumulated_resid(return_labels=True)
    assert labels == ["0_pre", "1_pre", "2_pre", "final_post"]
    assert _close(
        stack, torch.stack([*exported.attention("hook_resid_pre"), exported.attention("hook_resid_post")[-1]])
    )
    normed = exported.cache.accumulated_resid(apply_ln=True)
    assert _close(normed @ exported.bridge.W_U, exported.model.logits(stack))
    assert _close(exported.cache.logit_lens(return_type="logits", positions=None).values[-1], exported.logits)


def test_stack_head_results_add_up_to_our_attention_outputs(exported):
    stack, labels = exported.cache.stack_head_results(return_labels=True)
    assert labels == ["L0H0", "L0H1", "L1H0", "L1H1", "L2H0", "L2H1"]
    assert _close(stack.unflatten(0, (3, 2)).sum(dim=1), torch.stack(exported.attention()))
    z_BTE, W_O = exported.attention("attn.hook_z")[2][:, :, 1], exported.model.future_heads[1].attn.W_O[1]
    assert _close(stack[5], z_BTE @ W_O)


def test_logit_attributions_add_up_only_once_norms_are_folded(exported):
    target = exported.logits.gather(2, TOKENS[..., None])[..., 0]
    raw = exported.cache.logit_attrs(exported.cache.decompose_resid(), TOKENS).sum(dim=0)
    assert not _close(raw, target, within=0.1)
    bridge = exported.bare()
    bridge.process_weights(center_writing_weights=False, center_unembed=False)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(TOKENS)
    assert _close(logits, exported.logits)
    assert _close(cache.logit_attrs(cache.decompose_resid(), TOKENS).sum(dim=0) + bridge.b_U[TOKENS], target)


def test_compatibility_mode_moves_the_logits_of_a_position_by_a_constant(exported):
    bridge = exported.bare()
    bridge.enable_compatibility_mode(disable_warnings=True)
    with torch.no_grad():
        logits = bridge(TOKENS)
    assert _close(logits.log_softmax(dim=-1), exported.logits.log_softmax(dim=-1))
    assert not _close(logits, exported.logits, within=1e-2)


# Circuits


def test_factored_circuits_are_products_of_our_weights(exported):
    attention = exported.model.blocks[1].attn
    circuits = {"OV": attention.W_V[1] @ attention.W_O[1], "QK": attention.W_Q[1] @ attention.W_K[1].T}
    for name, expected in circuits.items():
        circuit = getattr(exported.bridge, name)
        assert isinstance(circuit, FactoredMatrix)
        assert _close(circuit[1, 1].AB, expected)
        assert _close(circuit[1, 1].S[:8], torch.linalg.svdvals(expected)[:8])
    full = exported.bridge.W_E @ exported.bridge.OV[1, 1] @ exported.bridge.W_U
    assert _close(full.AB, exported.model.W_E @ circuits["OV"] @ exported.model.W_U, within=1e-3)
    ours = torch.linalg.eigvals(exported.model.W_E @ circuits["OV"] @ exported.model.W_U).abs()
    assert _close(full.eigenvalues.abs().sort().values, ours.sort().values[-8:], within=1e-3)
    assert SVDInterpreter(exported.bridge).get_singular_vectors("OV", 1, num_vectors=2, head_index=1).shape == (
        11,
        1,
        2,
    )


def test_composition_scores_are_ours_plus_random_once_norms_are_folded(exported):
    ours = composition(exported.model)
    columns = [i for i, head in enumerate(ours.receivers) if head.layer != "future_heads.0"]
    later = ~np.isnan(ours.k[:, columns])
    raw, folded = exported.bare(), exported.bare()
    folded.process_weights(center_writing_weights=False, center_unembed=False)
    for mode, value, random in zip("QKV", (ours.q, ours.k, ours.v), ours.random, strict=True):
        expected = (value[:, columns] + random)[later]
        scores = [
            bridge.all_composition_scores(mode).scores.reshape(6, 6)[:4].detach().numpy()[later]
            for bridge in (raw, folded)
        ]
        assert np.abs(scores[1] - expected).max() < 1e-4
        assert np.abs(scores[0] - expected).max() > 1e-3


# Patching


def _metric(logits: Tensor) -> Tensor:
    return logits[0, -1, 3]


def _patched(exported: Exported, name: str, place: tuple) -> float:
    """The metric when our model sees the other tokens, with the clean activation at one place."""

    def patch(value: Tensor, hook: object) -> Tensor:
        value = value.clone()
        value[place] = exported.ours[name][place]
        return value

    logits = exported.model.run_with_hooks(OTHER_TOKENS, offsets=(OFFSET,), fwd_hooks=[(name, patch)])
    return _metric(logits[:, :, 0]).item()


ALL = slice(None)


def test_patching_heads_is_the_same_in_our_model(exported):
    theirs = patching.get_act_patch_attn_head_out_all_pos(exported.bridge, OTHER_TOKENS, exported.cache, _metric)
    ours = [[_patched(exported, f"{layer}.attn.hook_z", (ALL, ALL, head)) for head in range(2)] for layer in LAYERS]
    assert _close(theirs, torch.tensor(ours))
    assert theirs.std() > 1e-3


def test_patching_the_stream_is_the_same_in_our_model(gated):
    theirs = patching.get_act_patch_resid_pre(gated.bridge, OTHER_TOKENS, gated.cache, _metric)
    ours = [[_patched(gated, f"{layer}.hook_resid_pre", (ALL, position)) for position in range(7)] for layer in LAYERS]
    assert _close(theirs, torch.tensor(ours))
    assert theirs.std() > 1e-3


# Head detectors


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("previous_token_head", previous_token_mask),
        ("duplicate_token_head", lambda tokens: match_mask(tokens, 0)),
        ("induction_head", lambda tokens: match_mask(tokens, 1)),
    ],
)
def test_head_detectors_are_ours_over_all_queries(exported, name, mask):
    row = TOKENS[1:2]
    exported.bridge.to_tokens = lambda text: row
    theirs = head_detector.detect_head(exported.bridge, "any text", name)
    patterns = attention_patterns(exported.model, row)
    ours = torch.stack([masked_attention(patterns[layer], mask(row)) for layer in LAYERS])
    share_of_queries = mask(row).any(dim=-1).float().mean()
    assert _close(theirs, ours * share_of_queries)
    assert theirs.max() > 0.01


# The traps


def test_trap_hook_attn_scores_holds_the_pattern_and_edits_of_it_do_nothing(gated):
    assert torch.equal(gated.cache["attn_scores", 1], gated.cache["pattern", 1])
    with pytest.warns(UserWarning, match="The edit is discarded"):
        edited = gated.bridge.run_with_hooks(
            TOKENS, fwd_hooks=[("blocks.1.attn.hook_attn_scores", lambda x, hook: x * 2)]
        )
    assert torch.equal(edited, gated.theirs)


def test_trap_edits_of_hook_resid_mid_reach_the_mlp_alone(gated):
    name, more = "blocks.1.hook_resid_mid", torch.linspace(-1, 1, 16)

    def edit(resid: Tensor, hook: object) -> Tensor:
        return resid + more

    after = {}
    for label, model, options in (("ours", gated.model, {"offsets": (OFFSET,)}), ("theirs", gated.bridge, {})):
        kept = [(point, lambda x, hook, at=(label, point): after.__setitem__(at, x)) for point in (MLP, STREAM)]
        model.run_with_hooks(TOKENS, **options, fwd_hooks=[(name, edit), *kept])
    assert _close(after["theirs", MLP], after["ours", MLP])
    assert not _close(after["theirs", MLP], gated.ours[MLP], within=1e-2)
    assert _close(after["theirs", STREAM] + more, after["ours", STREAM])


MLP, STREAM = "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"


def test_trap_hooks_behind_the_rotation_never_run(gated):
    name = "blocks.1.attn.hook_rot_q"
    assert name in gated.bridge.hook_dict and name not in gated.cache
    assert torch.equal(gated.bridge.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda q, hook: q * 0)]), gated.theirs)


@pytest.mark.parametrize("setting", ["use_attn_result", "use_split_qkv_input", "use_attn_in"])
def test_trap_finer_hooks_are_refused(gated, setting):
    with pytest.raises(NotImplementedError, match="none of this model's attention bridges support"):
        getattr(gated.bare(), f"set_{setting}")(True)


def test_trap_no_direct_path_patching(gated):
    with pytest.raises(NotImplementedError):
        patching.get_act_patch_direct_path(
            gated.bare(), OTHER_TOKENS, gated.cache, gated.cache, _metric, 0, 0, verbose=False
        )


def test_trap_loss_and_generation_take_the_logits_for_the_next_tokens(gated):
    loss = gated.bridge(TOKENS, return_type="loss")
    of_next, of_offset = (
        F.cross_entropy(gated.logits[:, :-k].flatten(0, 1), TOKENS[:, k:].flatten()) for k in (1, OFFSET)
    )
    assert loss.item() == pytest.approx(of_next.item(), abs=1e-4)
    assert loss.item() != pytest.approx(of_offset.item(), abs=1e-2)
    longer = gated.bridge.generate(TOKENS[:1], max_new_tokens=1, do_sample=False, stop_at_eos=False, verbose=False)
    assert longer[0, -1] == gated.logits[0, -1].argmax() and longer.shape == (1, 8)


def test_trap_detect_head_wants_text_and_rows_shorter_than_the_context(gated):
    bridge = gated.bare()
    with pytest.raises(AssertionError, match="without a tokenizer"):
        head_detector.detect_head(bridge, "any text", "induction_head")
    bridge.to_tokens = lambda text: random_tokens(rows=1, length=12)
    with pytest.raises(AssertionError, match="must fit within the model's context window"):
        head_detector.detect_head(bridge, "any text", "induction_head")


def test_trap_induction_loss_wants_a_large_vocabulary(gated):
    with pytest.raises(IndexError):
        evals.induction_loss(gated.bridge, subseq_len=6, device="cpu")


def test_trap_patching_refuses_training_mode(gated):
    with pytest.raises(ValueError, match="evaluation mode"):
        patching.get_act_patch_attn_head_out_all_pos(gated.bare().train(), OTHER_TOKENS, gated.cache, _metric)


@pytest.mark.parametrize(
    "tool",
    [
        lambda x: x.cache.accumulated_resid(incl_mid=True),
        lambda x: patching.get_act_patch_mlp_out(x.bridge, OTHER_TOKENS, x.cache, _metric),
        lambda x: patching.get_act_patch_block_every(x.bridge, OTHER_TOKENS, x.cache, _metric),
    ],
    ids=["accumulated_resid", "mlp_out", "block_every"],
)
def test_trap_tools_that_look_for_mlps_fail_without(attention_only, tool):
    with pytest.raises(KeyError, match=r"hook_resid_mid|hook_mlp_out"):
        tool(attention_only)
