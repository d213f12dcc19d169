"""Clean, corrupted and patched runs, and the share of the right answer that a patch restores (recovery).

Everything is measured in the logit difference, right minus wrong answer at the query (Wang et al. 2023, 2211.00593):

    recovery = (patched - corrupted) / (clean - corrupted)         0: as in the corrupted run, 1: as in the clean one

Rows in which the clean and the corrupted difference are at most MARGIN apart are left out: the model does not use the corrupted
fact there, and the quotient would be noise. If no row is left, all stay and every recovery is NaN. Results store how many rows
were given and how many count: a mean over the rows that count describes only rows in which the model uses the fact.

The layers of a run are those on the path of one offset: the trunk's, that offset's future head, and before it other future
heads that it reads. A patched run starts at the patched layer, from the stored residual stream before it.

Dimension letters: B row, N patched run, T position, D d_model, H attention head, E d_head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs
from playground.probes.quiet import Hook, layer_names, quietly

MARGIN = 0.5
"""A row counts if its clean logit difference exceeds the corrupted one by more than this."""
MOST_TOKENS = 4096
"""Tokens in one forward of patched runs; bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of all rows: tokens, stored activations (by hook name, rows first) and logit difference."""

    tokens: Int[Tensor, "row pos"]
    activations: dict[str, Tensor]
    difference: Float[Tensor, " row"]
    """Logit of the right minus logit of the wrong answer, at the query."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The clean and the corrupted run of the pairs that count."""

    pairs: Pairs
    clean: Run
    corrupted: Run
    given: int
    """Number of pairs given, counted or not."""

    @property
    def counted(self) -> int:
        """Number of rows that count; 0 if there is none (then `pairs` holds all of them)."""
        return int((self.clean.difference - self.corrupted.difference > MARGIN).sum())

    def recovery(self, patched: Float[Tensor, "row *rest"]) -> NDArray[np.float64]:
        """Logit differences of patched runs as recoveries; NaN in rows that do not count."""
        shape = (-1, *(1 for _ in patched.shape[1:]))
        start, gap = self.corrupted.difference, self.clean.difference - self.corrupted.difference
        gap = gap.masked_fill(gap <= MARGIN, torch.nan).view(shape)
        return ((patched - start.view(shape)) / gap).cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Many patched runs at one hook point: run n is row `rows[n]`, with that row's `values` written at `place[..][n]`."""

    layer: int
    """Index of the layer on the path, in the order of `path_modules`."""
    point: str
    """Hook point within the layer, such as `attn.hook_z`."""
    values: Tensor
    """Activations to insert, for all rows."""
    rows: Int[Tensor, " run"]
    place: tuple[Tensor | slice, ...]
    """Indices into the axes after the row: one index per run, or a slice."""


def path_layers(model: MTPTransformer, offset: int) -> tuple[str, ...]:
    """Hook names of the layers on the path of one offset: the trunk's, and the future heads that have attention.

    Raises ValueError for an offset without a future head.
    """
    return tuple(name for name in path_modules(model, offset) if name in layer_names(model))


def path_modules(model: MTPTransformer, offset: int) -> tuple[str, ...]:
    """Hook names of all modules on the path of one offset: trunk layers, then future heads, with or without attention."""
    own = (f"future_heads.{index}" for index in model.path(offset))
    return (*(f"blocks.{layer}" for layer in range(len(model.blocks))), *own)


def tokens_ahead(model: MTPTransformer, offset: int) -> int:
    """How many later tokens the path of an offset reads at a position: 0 for most types of future heads."""
    return model.config.head_type.reads_ahead(model.n_future, offset)


def offset_of(pairs: Pairs, offset: int | None) -> int:
    """The offset of the pairs. Raises ValueError if `offset` is given and differs from it."""
    if offset not in (None, pairs.offset):
        raise ValueError(
            f"offset is {offset}, and the pairs are made for offset {pairs.offset}; "
            f"write make_pairs(..., offset={offset}), or leave offset out"
        )
    return pairs.offset


def both_runs(model: MTPTransformer, pairs: Pairs, points: Sequence[str]) -> Runs:
    """Run clean and corrupted rows; store the activations at `points`, and the streams that patched runs start from."""
    pairs = pairs.to(model.W_E.device)
    clean, corrupted = (_observe(model, pairs, tokens, points) for tokens in (pairs.clean, pairs.corrupted))
    counts = (clean.difference - corrupted.difference > MARGIN).nonzero().flatten()
    if not len(counts):
        return Runs(pairs=pairs, clean=clean, corrupted=corrupted, given=len(pairs.query))
    return Runs(
        pairs=pairs.rows(counts), clean=_rows(clean, counts), corrupted=_rows(corrupted, counts), given=len(pairs.query)
    )


def patched_differences(model: MTPTransformer, pairs: Pairs, base: Run, patch: Patch) -> Float[Tensor, " run"]:
    """Logit differences of the run `base` with each change of `patch`; one forward runs many changes.

    Tokens after the query cannot affect it, except those that its future heads read ahead, so rows are cut there. Runs are
    sorted by their query, so that the rows of one forward can be cut to similar lengths.
    """
    name = f"{path_modules(model, pairs.offset)[patch.layer]}.{patch.point}"
    ahead = tokens_ahead(model, pairs.offset)
    found_N = torch.empty(len(patch.rows), dtype=torch.float64, device=base.tokens.device)
    by_query_N = pairs.query[patch.rows].argsort(stable=True)
    for chunk in by_query_N.split(max(1, MOST_TOKENS // base.tokens.shape[1])):
        rows = patch.rows[chunk]
        length = int(pairs.query[rows].max()) + 1 + ahead
        place = tuple(part if isinstance(part, slice) else part[chunk] for part in patch.place)
        values = patch.values[:, :length][(rows, *place)]
        with quietly(model, [(name, lambda before, hook, place=place, values=values: _put(before, place, values))]):
            found_N[chunk] = rest_of_run(model, pairs, base, patch.layer, rows, length)
    return found_N


def rest_of_run(
    model: MTPTransformer, pairs: Pairs, base: Run, layer: int, rows: Int[Tensor, " run"], length: int
) -> Float[Tensor, " run"]:
    """Run those rows of `base`, cut to `length`, from the path's module `layer` to the end; returns the logit difference."""
    n_trunk, tokens_NT = len(model.blocks), base.tokens[rows, :length]
    if layer == 0:
        return _difference(model, pairs, model.trunk(tokens_NT), tokens_NT, rows)
    model.embed(tokens_NT)  # a clamp by token match reads the tokens at this hook
    before = "hook_trunk" if layer == n_trunk else f"{path_modules(model, pairs.offset)[layer - 1]}.hook_resid_post"
    resid_NTD = base.activations[before][rows, :length]
    if layer < n_trunk:
        rotation = model.rotary(length) if model.config.positions == "rotary" else None
        for block in model.blocks[layer:]:
            resid_NTD = block(resid_NTD, rotation)
        resid_NTD = model.hook_trunk(resid_NTD)
    return _difference(model, pairs, resid_NTD, tokens_NT, rows, done=max(0, layer - n_trunk))


def _put(activation: Tensor, place: tuple[Tensor | slice, ...], values: Tensor) -> Tensor:
    changed = activation.clone()
    changed[(torch.arange(len(values), device=values.device), *place)] = values
    return changed


def _difference(
    model: MTPTransformer, pairs: Pairs, resid_NTD: Tensor, tokens_NT: Tensor, rows: Tensor, done: int = 0
) -> Float[Tensor, " run"]:
    """Logit difference from the trunk output, or from the residual stream after the first `done` future heads on the path."""
    for index in model.path(pairs.offset)[done:]:
        resid_NTD = model.run_future_head(index, resid_NTD, tokens_NT)
    runs = torch.arange(len(rows), device=rows.device)
    logits_NV = model.logits(resid_NTD[runs, pairs.query[rows]], pairs.offset).double()
    return logits_NV[runs, pairs.answer[rows]] - logits_NV[runs, pairs.wrong[rows]]


def _observe(model: MTPTransformer, pairs: Pairs, tokens: Tensor, points: Sequence[str]) -> Run:
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = activation

    entries = [f"{name}.hook_resid_post" for name in path_modules(model, pairs.offset)]
    hooks: list[Hook] = [(name, keep) for name in {*points, *entries, "hook_trunk"}]
    with quietly(model, hooks):
        rows = torch.arange(len(tokens), device=tokens.device)
        difference = _difference(model, pairs, model.trunk(tokens), tokens, rows)
    return Run(tokens=tokens, activations=kept, difference=difference)


def _rows(run: Run, which: Tensor) -> Run:
    activations = {name: value[which] for name, value in run.activations.items()}
    return Run(tokens=run.tokens[which], activations=activations, difference=run.difference[which])
