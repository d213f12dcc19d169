"""Pairs for tests of patching, and one patched run at a time, in the plainest way: whole forwards, one row each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs, make_pairs
from tasks.base import seeded_generator
from tasks.registry import make_task
from tests.cases import make_batch, random_tokens

PATCHED = ("resid_pre", "attn_out", "mlp_out", "hook_z", "hook_q", "hook_k", "hook_v")


def task_pairs(rows: int = 6, **options: Any) -> Pairs:
    """Pairs from random repeats that `tests.handmade.induction_model` solves."""
    task = make_task("induction", d_vocab=32, n_ctx=64, min_distance=8, max_distance=24, test_rows=rows)
    return make_pairs(task.test_batch(rows), seeded_generator(0), **options)


def small_pairs(rows: int = 3, **options: Any) -> Pairs:
    """Pairs for `tests.cases.small_model`; some have several sources."""
    batch = make_batch(random_tokens(rows=40, length=12, d_vocab=5, seed=1))
    return make_pairs(batch, seeded_generator(2), rows=rows, **options)


def every_margin_counts(monkeypatch: Any) -> None:
    """Untrained models, too, get recoveries."""
    monkeypatch.setattr("playground.probes.recovery.MARGIN", -torch.inf)


@torch.no_grad()
def run(
    model: MTPTransformer, pairs: Pairs, row: int, tokens: Tensor, hooks: Any = ()
) -> tuple[float, dict[str, Tensor]]:
    """Logit difference of one row, and the activations of this run that can be patched."""
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> None:
        kept[hook.name] = activation

    with model.hooks(fwd_hooks=[*hooks, (lambda name: name.endswith(PATCHED), keep)]):
        logits = model(tokens[row : row + 1], (pairs.offset,))[0, pairs.query[row], 0].double()
    return float(logits[pairs.answer[row]] - logits[pairs.wrong[row]]), kept


class Ends:
    """The clean and the corrupted run of one row, and recoveries between them."""

    def __init__(self, model: MTPTransformer, pairs: Pairs, row: int) -> None:
        self.model, self.pairs, self.row = model, pairs, row
        self.clean_difference, self.clean = run(model, pairs, row, pairs.clean)
        self.corrupted_difference, self.corrupted = run(model, pairs, row, pairs.corrupted)

    def recovery(self, tokens: Tensor, hooks: Any) -> float:
        """Recovery of a run on these tokens with these hooks."""
        patched, _ = run(self.model, self.pairs, self.row, tokens, hooks)
        return (patched - self.corrupted_difference) / (self.clean_difference - self.corrupted_difference)


def put(name: str, values: Tensor, *place: Any) -> tuple[str, Callable[..., Tensor]]:
    """A hook that puts `values[place]` into one activation."""

    def change(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        changed[place] = values[place]
        return changed

    return name, change
