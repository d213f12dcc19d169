"""A clean and a corrupted run side by side, patched runs, and how much of the right answer they bring back.

Everything is measured in the logit difference, right minus wrong answer at the query (Wang et al. 2023, 2211.00593):

    recovery = (patched - corrupted) / (clean - corrupted)         0: as in the corrupted run, 1: as in the clean one

Rows in which clean and corrupted run lie no more than MARGIN apart are left out, because there the quotient would be noise:
the model does not use what was corrupted. When no row is left, all stay and every recovery is NaN. Results say how many rows
were given and how many counted: a mean over the rows that count is one over those in which the model uses the fact.

The layers of a run are those on the path of one offset: the trunk's, that offset's future head, and before it others that it
reads. A patched run begins at the patched layer, with what entered it; what comes before stays the same.

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

from playground.config.future_heads import reads_tokens
from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs
from playground.probes.quiet import Hook, layer_names, quietly

MARGIN = 0.5
"""Least logit difference, clean minus corrupted, of a row that counts."""
MOST_TOKENS = 4096
"""Tokens in one forward of patched runs."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of all rows: what came out, and the activations that were kept, by hook name and with the row first."""

    tokens: Int[Tensor, "row pos"]
    activations: dict[str, Tensor]
    difference: Float[Tensor, " row"]
    """Logit of the right minus logit of the wrong answer, at the query."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The clean and the corrupted run of the same pairs, which are the rows that count."""

    pairs: Pairs
    clean: Run
    corrupted: Run
    given: int
    """How many pairs there were, counted or not."""

    @property
    def counted(self) -> int:
        """How many rows lie more than MARGIN apart; 0 where all stayed because none does."""
        return int((self.clean.difference - self.corrupted.difference > MARGIN).sum())

    def recovery(self, patched: Float[Tensor, "row *rest"]) -> NDArray[np.float64]:
        """Logit differences of patched runs as recoveries, NaN in rows that do not count."""
        shape = (-1, *(1 for _ in patched.shape[1:]))
        start, gap = self.corrupted.difference, self.clean.difference - self.corrupted.difference
        gap = gap.masked_fill(gap <= MARGIN, torch.nan).view(shape)
        return ((patched - start.view(shape)) / gap).cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Many patched runs at one hook point: run n is the row `rows[n]` with that row's `values` put in at `place[..][n]`."""

    layer: int
    """Number of the layer on the path, as `path_modules` lists them."""
    point: str
    """Hook point within the layer, such as `attn.hook_z`."""
    values: Tensor
    """Activations to put in, of all rows."""
    rows: Int[Tensor, " run"]
    place: tuple[Tensor | slice, ...]
    """Indices behind the row's: one for each run, or a slice."""


def path_layers(model: MTPTransformer, offset: int) -> tuple[str, ...]:
    """Hook names of the layers on the path of one offset: the trunk's, and those future heads that hold attention.

    Raises ValueError for an offset that the model has no head for.
    """
    return tuple(name for name in path_modules(model, offset) if name in layer_names(model))


def path_modules(model: MTPTransformer, offset: int) -> tuple[str, ...]:
    """`path_layers`, and behind them the future head without attention, where the path ends in one."""
    own = (f"future_heads.{index}" for index in model.path(offset))
    return (*(f"blocks.{layer}" for layer in range(len(model.blocks))), *own)


def tokens_ahead(model: MTPTransformer, offset: int) -> int:
    """How far beyond a position the path of an offset reads tokens there: `sequential` and `hydra` future heads do."""
    return offset - 1 if reads_tokens(model.config.future_heads) else 0


def offset_of(pairs: Pairs, offset: int | None) -> int:
    """The offset of the pairs. Raises ValueError when another one is asked for."""
    if offset not in (None, pairs.offset):
        raise ValueError(
            f"offset is {offset}, and the pairs are made for offset {pairs.offset}; "
            f"write make_pairs(..., offset={offset}), or leave offset out"
        )
    return pairs.offset


def both_runs(model: MTPTransformer, pairs: Pairs, points: Sequence[str]) -> Runs:
    """Run clean and corrupted rows, and keep the activations at `points` and what patched runs begin with."""
    pairs = pairs.to(model.W_E.device)
    clean, corrupted = (_observe(model, pairs, tokens, points) for tokens in (pairs.clean, pairs.corrupted))
    counts = (clean.difference - corrupted.difference > MARGIN).nonzero().flatten()
    if not len(counts):
        return Runs(pairs=pairs, clean=clean, corrupted=corrupted, given=len(pairs.query))
    return Runs(
        pairs=pairs.rows(counts), clean=_rows(clean, counts), corrupted=_rows(corrupted, counts), given=len(pairs.query)
    )


def patched_differences(model: MTPTransformer, pairs: Pairs, base: Run, patch: Patch) -> Float[Tensor, " run"]:
    """Logit differences of the run `base` with each of the changes of `patch`; one forward does many of them.

    Nothing behind a query reaches it but the tokens that are read ahead, so rows are cut there, the runs with early queries
    together.
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
    """Run those rows of `base`, cut to `length`, from the path's layer `layer` to the end; the logit difference."""
    n_trunk, tokens_NT = len(model.blocks), base.tokens[rows, :length]
    if layer == 0:
        return _difference(model, pairs, model.trunk(tokens_NT), tokens_NT, rows)
    model.embed(tokens_NT)  # a clamp by token match reads the tokens there
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
    """From the trunk's output, or from behind the first `done` future heads on the path."""
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
