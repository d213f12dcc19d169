"""Activation patching: one activation of the clean run replaces that of the corrupted run, and the restored answer is measured.

After Meng et al. 2022 (2202.05262, causal tracing), with exchanged tokens in place of noise (Zhang & Nanda 2023, 2309.16042).
An activation that restores the answer holds the corrupted fact. Pairs come from `make_pairs` (playground/probes/pairs.py);
playground/probes/recovery.py defines recovery.

Dimension letters: B row, T position, H attention head, N patched run.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from playground.figures.probe_charts import position_patching_figure
from playground.figures.probe_maps import head_patching_figure
from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs, on_pairs
from playground.probes.probe import Probe
from playground.probes.recovery import (
    Patch,
    both_runs,
    offset_of,
    patched_differences,
    path_layers,
    path_modules,
    tokens_ahead,
)
from playground.results import HeadPatching, PositionPatching, heads_of

Site = Literal["resid_pre", "attn_out", "mlp_out"]
"""The residual stream before a layer, or the output of its attention or its MLP."""


def patch_positions(
    model: MTPTransformer, pairs: Pairs, *, site: Site = "resid_pre", offset: int | None = None
) -> PositionPatching:
    """Patch one position at one layer at a time: all layers of the trunk and of the path of the pairs' offset.

    The result holds only the rows that count (`recovery.MARGIN`), and their number. A position before the first exchanged token
    has equal activations in both runs: its recovery is exactly 0 and it is not run. Positions after the query cannot affect it
    and are not run either. A position whose future heads read an exchanged token ahead of it counts as exchanged.
    `offset`, if given, must be that of the pairs. Raises ValueError if it is not, if the model has no future head for it, and
    for `mlp_out` of a model without MLPs.
    """
    modules = path_modules if site == "resid_pre" else path_layers
    layers = modules(model, offset_of(pairs, offset))
    if site == "mlp_out" and model.config.mlp == "none":
        raise ValueError("site is 'mlp_out', and the model has no MLPs; write 'resid_pre' or 'attn_out'")
    sites = tuple(f"{name}.hook_{site}" for name in layers)
    runs = both_runs(model, pairs, sites)
    pairs = runs.pairs
    positions_T = torch.arange(pairs.clean.shape[1], device=pairs.clean.device)
    exchanged_BT = (pairs.clean != pairs.corrupted).cumsum(dim=1) > 0
    # Where future heads read `ahead` later tokens, a position differs as soon as one of these tokens does.
    ahead = tokens_ahead(model, pairs.offset)
    differs_BT = F.pad(exchanged_BT[:, ahead:], (0, ahead), value=True)
    rows_N, positions_N = (differs_BT & (positions_T <= pairs.query[:, None])).nonzero(as_tuple=True)
    columns = []
    for layer, name in enumerate(sites):
        patch = Patch(
            layer=layer, point=f"hook_{site}", values=runs.clean.activations[name], rows=rows_N, place=(positions_N,)
        )
        patched_BT = runs.corrupted.difference[:, None].repeat(1, len(positions_T))
        patched_BT[rows_N, positions_N] = patched_differences(model, pairs, runs.corrupted, patch)
        columns.append(patched_BT)
    return PositionPatching(
        sites=sites,
        offset=pairs.offset,
        recovery=runs.recovery(torch.stack(columns, dim=1)),
        roles=pairs.roles(),
        clean_difference=runs.clean.difference.cpu().numpy(),
        corrupted_difference=runs.corrupted.difference.cpu().numpy(),
        rows_given=runs.given,
        rows_counted=runs.counted,
    )


def patch_heads(model: MTPTransformer, pairs: Pairs, *, offset: int | None = None) -> HeadPatching:
    """Patch the output z of one attention head at a time, at all positions: heads of the trunk and of the offset's path.

    The result holds only the rows that count (`recovery.MARGIN`), and their number. `offset`, if given, must be that of the
    pairs. Raises ValueError if it is not, or if the model has no future head for it.
    """
    layers, n_heads = path_layers(model, offset_of(pairs, offset)), model.config.n_heads
    runs = both_runs(model, pairs, [f"{layer}.attn.hook_z" for layer in layers])
    n_rows = len(runs.pairs.clean)
    device = runs.pairs.clean.device
    rows_N = torch.arange(n_rows, device=device).repeat_interleave(n_heads)
    heads_N = torch.arange(n_heads, device=device).repeat(n_rows)
    columns = []
    for layer, name in enumerate(layers):
        patch = Patch(
            layer=layer,
            point="attn.hook_z",
            values=runs.clean.activations[f"{name}.attn.hook_z"],
            rows=rows_N,
            place=(slice(None), heads_N),
        )
        columns.append(patched_differences(model, runs.pairs, runs.corrupted, patch).view(n_rows, n_heads))
    return HeadPatching(
        heads=heads_of(layers, n_heads),
        offset=runs.pairs.offset,
        recovery=runs.recovery(torch.cat(columns, dim=1)),
        rows_given=runs.given,
        rows_counted=runs.counted,
    )


PROBE = (
    Probe(
        name="patch_positions",
        summary="How much of the right answer each layer's residual stream restores, by position (corrupted answer).",
        result=PositionPatching,
        make=on_pairs(patch_positions, "answer"),
        figure=position_patching_figure,
        may_refuse=True,
    ),
    Probe(
        name="patch_heads",
        summary="How much of the right answer each head's output restores (corrupted answer).",
        result=HeadPatching,
        make=on_pairs(patch_heads, "answer"),
        figure=head_patching_figure,
        may_refuse=True,
    ),
    Probe(
        name="patch_heads_match",
        summary="How much of the right answer each head's output restores (corrupted earlier occurrence).",
        result=HeadPatching,
        make=on_pairs(patch_heads, "match"),
        figure=head_patching_figure,
        may_refuse=True,
    ),
)
