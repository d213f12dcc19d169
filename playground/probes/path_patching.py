"""Path patching: the direct effect of one head on another (Wang et al. 2023, 2211.00593, section 3.1).

There are four runs per sender and receiver:

1. the clean and the corrupted run, storing every attention head's output z;
2. the clean run with all z frozen at their clean values, except the sender's, which gets its corrupted value; MLPs are
   recomputed. Any change in a receiver's query, key or value then comes from the sender and through no other head.
3. the clean run with this one query, key or value taken from run 2, and everything after it recomputed.

The effect is 1 - recovery of the logit difference in run 3. The direct path to the logits ends at the final norm instead of at
a receiver: its effect is that of run 2 itself. A path shows an effect only under a corruption that changes the information on
it: `match` for the key of an induction head, `answer` for its value (playground/probes/pairs.py).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from playground.figures.probe_maps import path_patching_figure
from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs, on_pairs
from playground.probes.probe import Probe
from playground.probes.quiet import Hook, quietly
from playground.probes.recovery import (
    Patch,
    Run,
    Runs,
    both_runs,
    offset_of,
    patched_differences,
    path_layers,
    rest_of_run,
)
from playground.results import Head, PathPatching, heads_of

KINDS = ("q", "k", "v")


def path_patching(
    model: MTPTransformer,
    pairs: Pairs,
    *,
    offset: int | None = None,
    senders: Sequence[Head] | None = None,
    receivers: Sequence[Head] | None = None,
) -> PathPatching:
    """Effects of all paths from `senders` to the queries, keys and values of `receivers`, and to the logits.

    Default senders are all heads on the path except those of its last layer (so all trunk heads, where future heads read the
    trunk); default receivers are all heads on the path in layers after the first sender's. Effects are means over the rows that
    count (`recovery.MARGIN`), NaN if there are none. Raises ValueError for a head that is not on the path of this offset, for
    an `offset` that is not that of the pairs, and if the model has no future head for it.
    """
    layers, n_heads = path_layers(model, offset_of(pairs, offset)), model.config.n_heads
    senders = _known(heads_of(layers[:-1], n_heads) if senders is None else senders, layers, n_heads)
    if receivers is None:
        first = min((layers.index(sender.layer) for sender in senders), default=-1)
        receivers = heads_of(layers[first + 1 :], n_heads)
    receivers = _known(receivers, layers, n_heads)
    runs = both_runs(model, pairs, [f"{layer}.attn.hook_z" for layer in layers])
    effects = {kind: np.full((len(senders), len(receivers)), np.nan) for kind in KINDS}
    to_logits = np.full(len(senders), np.nan)
    for i, sender in enumerate(senders):
        frozen = frozen_run(model, runs, sender)
        to_logits[i] = 1 - runs.recovery(frozen.difference).mean()
        for layer in range(layers.index(sender.layer) + 1, len(layers)):
            here = [j for j, receiver in enumerate(receivers) if receiver.layer == layers[layer]]
            heads = [receivers[j].index for j in here]
            for kind in KINDS if here else ():
                values = frozen.activations[f"{layers[layer]}.attn.hook_{kind}"]
                effects[kind][i, here] = _effects(model, runs, layer, kind, values, heads)
    return PathPatching(
        senders=tuple(senders),
        receivers=tuple(receivers),
        offset=runs.pairs.offset,
        to_logits=to_logits,
        rows_given=runs.given,
        rows_counted=runs.counted,
        **effects,
    )


def frozen_run(model: MTPTransformer, runs: Runs, sender: Head) -> Run:
    """Run 2 of the module: clean except for the sender, with all other heads' z frozen. Stores q, k and v of later layers."""
    layers = path_layers(model, runs.pairs.offset)
    first, tokens = layers.index(sender.layer), runs.clean.tokens
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = activation

    frozen = {name: runs.clean.activations[name].clone() for name in (f"{layer}.attn.hook_z" for layer in layers)}
    name = f"{sender.layer}.attn.hook_z"
    frozen[name][:, :, sender.index] = runs.corrupted.activations[name][:, :, sender.index]
    hooks: list[Hook] = [(name, lambda z, hook: frozen[str(hook.name)]) for name in frozen]
    hooks += [(f"{layer}.attn.hook_{kind}", keep) for layer in layers[first + 1 :] for kind in KINDS]
    with quietly(model, hooks):
        rows = torch.arange(len(tokens), device=tokens.device)
        difference = rest_of_run(model, runs.pairs, runs.clean, first, rows, tokens.shape[1])
    return Run(tokens=tokens, activations=kept, difference=difference)


def _effects(
    model: MTPTransformer, runs: Runs, layer: int, kind: str, values: Tensor, heads: Sequence[int]
) -> np.ndarray:
    """Run 3 of the module for some heads of one layer: the mean effect of each."""
    n_rows, device = len(values), values.device
    patch = Patch(
        layer=layer,
        point=f"attn.hook_{kind}",
        values=values,
        rows=torch.arange(n_rows, device=device).repeat_interleave(len(heads)),
        place=(slice(None), torch.tensor(heads, device=device).repeat(n_rows)),
    )
    patched_BH = patched_differences(model, runs.pairs, runs.clean, patch).view(n_rows, len(heads))
    return 1 - runs.recovery(patched_BH).mean(axis=0)


def _known(heads: Sequence[Head], layers: Sequence[str], n_heads: int) -> tuple[Head, ...]:
    known = heads_of(layers, n_heads)
    for head in heads:
        if head not in known:
            raise ValueError(
                f"there is no head {head} on the path to this offset's logits; write one of {', '.join(map(str, known))}"
            )
    return tuple(heads)


PROBE = Probe(
    name="path_patching",
    summary="Direct effect of each trunk head on later heads' queries, keys and values (corrupted earlier occurrence).",
    result=PathPatching,
    make=on_pairs(path_patching, "match"),
    figure=path_patching_figure,
    may_refuse=True,
)
