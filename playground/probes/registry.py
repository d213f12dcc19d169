"""All probes by name, each made ready for a task: what training, the command line and the app run.

A probe is made once for a task, with its rows and its randomness fixed, and then measures any model of that task; the same
rows for every run, so that runs can be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from playground.config import nearest
from playground.model.transformer import MTPTransformer
from playground.probes.ablation import ablate, all_components, induction_after_ablation
from playground.probes.attention_scores import MOST_AHEAD, AttentionProbe, probe_tokens, scored_queries
from playground.probes.behaviour import measure_behaviour
from playground.probes.composition import composition
from playground.probes.knockout import knockout
from playground.probes.rows import ROWS, probe_batch
from playground.results import (
    AblationEffects,
    AttentionScores,
    Behaviour,
    Composition,
    InductionAfterAblation,
    Knockout,
    Result,
)
from tasks.base import Batch, Task, seeded_generator

PROBE_SEED = 20240430
"""Seed of the probe rows and the null bands; the same for every run."""
ABLATION_ROWS = 64
Measure = Callable[[MTPTransformer], Result]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe with its name, what it says, and how it is made ready for a task."""

    name: str
    summary: str
    result: type[Result]
    make: Callable[[Task, int], Measure]
    """From the task and n_future."""


def _generator() -> torch.Generator:
    return seeded_generator(PROBE_SEED)


def _attention(task: Task, n_future: int) -> Measure:
    tokens = probe_tokens(task.d_vocab, task.n_ctx, _generator())
    return AttentionProbe(tokens, _generator(), most_ahead=max(MOST_AHEAD, n_future))


def _task_attention(task: Task, n_future: int) -> Measure:
    batch = probe_batch(task)
    return AttentionProbe(
        batch.tokens,
        _generator(),
        queries=scored_queries(batch),
        rows_from="task",
        most_ahead=max(MOST_AHEAD, n_future),
    )


def _on_rows(probe: Callable[[MTPTransformer, Batch], Result], rows: int) -> Callable[[Task, int], Measure]:
    """Made ready with so many test rows of the task."""

    def make(task: Task, _n_future: int) -> Measure:
        batch = probe_batch(task, rows)
        return lambda model: probe(model, batch)

    return make


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(
            name="attention",
            summary="Attention scores of every head (previous token, induction, k ahead, duplicate token) on random repeats.",
            result=AttentionScores,
            make=_attention,
        ),
        Probe(
            name="task_attention",
            summary="Attention scores of every head on rows of the task, for queries before the tokens that it scores.",
            result=AttentionScores,
            make=_task_attention,
        ),
        Probe(
            name="composition",
            summary="Q-, K- and V-composition of every trunk head with every later head, minus the random value.",
            result=Composition,
            make=lambda task, n_future: composition,
        ),
        Probe(
            name="knockout",
            summary="Accuracy without the induction heads, the previous-token heads, and as many random other heads.",
            result=Knockout,
            make=_on_rows(knockout, ABLATION_ROWS),
        ),
        Probe(
            name="ablation",
            summary="Loss and accuracy of each offset without each head, each layer's attention and each MLP (mean ablation).",
            result=AblationEffects,
            make=_on_rows(lambda model, batch: ablate(model, batch, all_components(model)), ABLATION_ROWS),
        ),
        Probe(
            name="direct_ablation",
            summary="Ablation with all attention patterns held at those of the whole model: effects through what is written.",
            result=AblationEffects,
            make=_on_rows(
                lambda model, batch: ablate(model, batch, all_components(model), freeze_patterns=True), ABLATION_ROWS
            ),
        ),
        Probe(
            name="induction_after_ablation",
            summary="Induction score of every head while each trunk head is ablated.",
            result=InductionAfterAblation,
            make=_on_rows(
                lambda model, batch: induction_after_ablation(model, batch, queries=scored_queries(batch)), ROWS
            ),
        ),
        Probe(
            name="behaviour",
            summary="Loss and accuracy of each offset on rows of the task, and how much context helps.",
            result=Behaviour,
            make=_on_rows(measure_behaviour, ROWS),
        ),
    )
}


def find_probe(name: str) -> Probe:
    """A probe by name. Raises ValueError, with the nearest name, for an unknown one."""
    if name not in PROBES:
        raise ValueError(f"there is no probe '{name}'{nearest(name, PROBES)}")
    return PROBES[name]


def make_probes(names: Sequence[str], task: Task, n_future: int) -> dict[str, Measure]:
    """The named probes, made ready for a task. Raises ValueError for an unknown name."""
    found = [find_probe(name) for name in names]
    return {probe.name: probe.make(task, n_future) for probe in found}
