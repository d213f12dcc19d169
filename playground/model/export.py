"""Export to TransformerLens: trunk, future head, final norm and unembedding as an ordinary transformer of the library.

The library's tools then work on it: `ActivationCache`, `transformer_lens.patching`, `FactoredMatrix`, logit lens and others.

    bridge = export_to_transformer_lens(model, offset=2)
    logits, cache = bridge.run_with_cache(tokens)

| ours                                     | the bridge's                                                              |
|------------------------------------------|---------------------------------------------------------------------------|
| `hook_embed`, `hook_pos_embed`           | the same                                                                  |
| `blocks.i`                               | `blocks.i`                                                                |
| `hook_trunk`                             | `blocks.{n_trunk_layers}.hook_resid_pre`                                  |
| `future_heads.{offset - 1}`              | the last of `blocks`; after the trunk, and after others on its path       |
| `ln_final`, `W_E`, `W_U`                 | the same; replicated, `W_U` is the offset's own                           |
| in a layer                               |                                                                           |
| `hook_resid_pre`, `_mid`, `_post`        | the same; see below for edits of `hook_resid_mid`                         |
| `ln1`, `ln2`: `hook_scale`, `_normalized`| the same                                                                  |
| `attn.hook_q`, `_k`, `_v`, `_z`          | the same, before the rotation                                             |
| `attn.hook_rot_q`, `_rot_k`              | never run                                                                 |
| `attn.hook_attn_scores`                  | holds the pattern                                                         |
| `attn.hook_pattern`, `hook_attn_out`     | the same                                                                  |
| `mlp.hook_pre`, `_pre_linear`, `_post`   | the same                                                                  |
| `hook_mlp_out`                           | the same                                                                  |
| `attn.W_Q`, `W_K`, `W_V`, `W_O`          | the same, and `bridge.W_Q` of all layers                                  |

Every option of `ModelConfig` can be exported, but only paths of layers like the trunk's; of many types of future heads that is
offset 1 alone (`HeadModule.no_export`). Attention-only models become `attn_only` ones. The library's attention and MLP biases
are zeros. Traps of the library (4.3):

- `hook_attn_scores` holds the pattern, after the softmax, and an edit of it changes nothing: edit `hook_pattern`, `hook_q`, ..
- An edit of `hook_resid_mid` reaches the MLP but not the residual stream, so `patching.get_act_patch_resid_mid` does not
  measure what its name says. Edits of all other points in the table act as in our model.
- `use_attn_result`, `use_split_qkv_input` and `use_attn_in` are refused: no direct path patching.
  `ActivationCache.stack_head_results` works without.
- The tools treat the logits as those of the next token. With offset > 1 `return_type="loss"` and `generate` are meaningless.
- Norms are not folded into weights: `logit_attrs` ignores the weight of the final norm, and composition scores ignore the
  layers' norms. `bridge.process_weights(center_writing_weights=False, center_unembed=False)` folds them without changing the
  logits (the final LayerNorm's bias becomes `b_U`); the composition scores then equal those of playground.probes.composition
  plus the random value. `enable_compatibility_mode()` also centres, which shifts the logits of a position by a constant.
- There is no tokenizer. `head_detector.detect_head` needs `bridge.to_tokens` replaced by a function that returns one row
  shorter than n_ctx. It divides by the number of all queries of the row; our scores divide by those that have a target.
- `evals.induction_loss` draws tokens up to 20,000 and fails for a smaller vocabulary.
- Patching refuses a bridge in training mode.
- Without MLPs there is no `hook_resid_mid` and no `hook_mlp_out`, here as in our model: `accumulated_resid(incl_mid=True)`,
  `get_act_patch_mlp_out` and `get_act_patch_block_every` raise KeyError.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformer_lens import TransformerBridgeConfig

from playground.model.layers import has_hooks
from playground.model.transformer import MTPTransformer

if TYPE_CHECKING:
    import transformer_lens.model_bridge

WEIGHTS: dict[str, tuple[str, ...]] = {
    "attn.qkv": ("attn.q", "attn.k", "attn.v"),
    "attn.out": ("attn.o",),
    "mlp.gate_in": ("mlp.gate", "mlp.in"),
    "mlp.linear_in": ("mlp.in",),
}
"""Our weights that have other names in the bridge, or are split there into several in this order; other names are equal."""


def export_to_transformer_lens(
    model: MTPTransformer, offset: int = 1
) -> "transformer_lens.model_bridge.TransformerBridge":
    """The transformer that predicts the token `offset` ahead, as a `TransformerBridge` with copies of the weights.

    `bridge(tokens)` [batch, pos, d_vocab] equals `model(tokens, offsets=(offset,))[:, :, 0]` up to rounding. The bridge is in
    evaluation mode, on the model's device and in its precision; the model is not changed. The module's docstring maps the
    names and lists the traps.

    Raises ValueError for an offset without a future head, for an offset whose path contains a future head that is not a whole
    layer, and for a model with hooks on the exported path: hooks change its output, and the bridge would not have them.
    """
    from transformer_lens.model_bridge.sources import boot_native  # a second to import

    _refuse_other_modules(model, offset)
    _refuse_hooks(model, offset)
    with torch.random.fork_rng(devices=[]):  # the library's layers draw weights, which are replaced below
        bridge = boot_native(_config(model, offset), device=model.W_E.device, dtype=model.W_E.dtype)
    biases = {name: torch.zeros_like(value) for name, value in bridge.state_dict().items() if name.endswith(".bias")}
    bridge.load_state_dict(biases | _weights(model, offset))
    if model.config.positions == "rotary":
        _copy_rotation(model, bridge)
    return bridge.eval()


def _refuse_other_modules(model: MTPTransformer, offset: int) -> None:
    others = [index for index in model.path(offset) if model.head_modules[index].no_export]
    if others:
        first = any(model.head_modules[index].no_export for index in model.path(1))
        raise ValueError(
            f"the future head of offset {others[0] + 1} is no plain layer but of the type '{model.config.future_heads}', and "
            f"{model.head_modules[others[0]].no_export}; write {'another type of future heads' if first else 'offset=1'}"
        )


def _refuse_hooks(model: MTPTransformer, offset: int) -> None:
    hooked = [
        name for name, point in model.hook_dict.items() if has_hooks(point) and _bridge_place(model, name, offset)
    ]
    if hooked:
        raise ValueError(
            f"the model has hooks on {', '.join(hooked)}, and its export would give other outputs without them; remove "
            "them with model.reset_hooks() (permanent ones with model.reset_hooks(including_permanent=True)), "
            "or export an unclamped model"
        )


def _bridge_place(model: MTPTransformer, name: str, offset: int) -> str | None:
    """Name of a weight or hook point in the bridge, or None when it is not on the path to the offset's logits."""
    part, _, rest = name.partition(".")
    if part in ("unembed", "more_unembeds"):
        own = "unembed" if offset == 1 or not model.more_unembeds else f"more_unembeds.{offset - 2}"
        return name.replace(own, "unembed") if name.startswith(f"{own}.") else None
    if part != "future_heads":
        return name
    index, _, rest = rest.partition(".")
    path = model.path(offset)
    return f"blocks.{len(model.blocks) + path.index(int(index))}.{rest}" if int(index) in path else None


def _config(model: MTPTransformer, offset: int) -> TransformerBridgeConfig:
    c = model.config
    rms = c.normalization == "RMS"
    config = TransformerBridgeConfig(
        n_layers=len(model.blocks) + len(model.path(offset)),
        n_heads=c.n_heads,
        d_model=c.d_model,
        d_head=c.d_head,
        d_mlp=c.d_mlp,
        n_ctx=model.n_ctx,
        d_vocab=model.unembed.out_features,
        default_prepend_bos=False,
        attn_only=c.mlp == "none",
        gated_mlp=c.mlp == "gated",
        act_fn="silu" if c.mlp == "gated" else "gelu",
        normalization_type=c.normalization,
        uses_rms_norm=rms,
        final_rms=rms,
        eps=c.eps,
        positional_embedding_type=c.positions,
        rotary_dim=c.d_head,
        init_weights=False,
        device=str(model.W_E.device),
    )
    config.rotary_base = c.rotary_base  # type: ignore[assignment]  # the constructor rounds it to an integer
    return config


def _weights(model: MTPTransformer, offset: int) -> dict[str, Tensor]:
    """The weights on the exported path, by the bridge's names."""
    weights: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        place = _bridge_place(model, name, offset)
        if place is not None:
            names = _bridge_names(place)
            weights |= zip(names, weight.chunk(len(names)), strict=True)
    return weights


def _bridge_names(name: str) -> tuple[str, ...]:
    for ours, theirs in WEIGHTS.items():
        if ours in name:
            return tuple(name.replace(ours, part) for part in theirs)
    return (name,)


@torch.no_grad()
def _copy_rotation(model: MTPTransformer, bridge: "transformer_lens.model_bridge.TransformerBridge") -> None:
    """Copy our table of angles over the library's, which is computed in single precision and is 1e-4 off at position 4000."""
    cos, sin = (table[:, 1::2].repeat_interleave(2, dim=1) for table in model.rotary(model.n_ctx))  # without our signs
    bridge.original_model.get_buffer("rotary.cos_cached").copy_(cos)
    bridge.original_model.get_buffer("rotary.sin_cached").copy_(sin)
