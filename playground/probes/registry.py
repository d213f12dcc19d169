"""All probes by name, each with a function that prepares it for a task; used by training, the command line and the app.

A probe is prepared once for a task, with fixed rows and fixed randomness, and then measures any model of that task. The rows
are equal for every run, so that runs can be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from playground.config import nearest
from playground.model.transformer import MTPTransformer
from playground.probes.ablation import ablate, all_components, induction_after_ablation
from playground.probes.agreement import offset_agreement
from playground.probes.attention_scores import MOST_AHEAD, AttentionProbe, probe_tokens, scored_queries
from playground.probes.behaviour import BehaviourProbe
from playground.probes.composition import CompositionProbe
from playground.probes.copying import copying
from playground.probes.gradients import gradient_shares
from playground.probes.knockout import knockout
from playground.probes.lens import lens
from playground.probes.linear import COUNTED, LinearProbe, counted_rows, linear_rows, token_targets, value_targets
from playground.probes.pairs import Corruption, NoPairs, Pairs, make_pairs
from playground.probes.patching import patch_heads, patch_positions
from playground.probes.path_patching import path_patching
from playground.probes.repeated import Measure
from playground.probes.rows import ROWS, probe_batch
from playground.results import (
    AblationEffects,
    AttentionScores,
    Behaviour,
    Composition,
    Copying,
    GradientShares,
    HeadPatching,
    InductionAfterAblation,
    Knockout,
    Lens,
    LinearProbes,
    OffsetAgreement,
    PathPatching,
    PositionPatching,
    Result,
)
from tasks.base import Batch, Task, seeded_generator
from tasks.polynomial import Polynomial

PROBE_SEED = 20240430
"""Seed of the probe rows and the null distributions; equal for every run."""
ABLATION_ROWS = 64
Make = Callable[[Task, int], Measure]
"""Prepares a probe for a task and n_future."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe with its name, a one-sentence summary, and the function that prepares it for a task."""

    name: str
    summary: str
    result: type[Result]
    make: Make
    may_refuse: bool = False
    """True if the rows of a task may contain nothing for it to measure; then preparing it raises NoPairs."""


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
        real=batch.real,
        rows_from="task",
        most_ahead=max(MOST_AHEAD, n_future),
    )


def _on_rows(probe: Callable[[MTPTransformer, Batch], Result], rows: int = ROWS) -> Make:
    """A probe of a model and `rows` test rows of the task."""

    def make(task: Task, _n_future: int) -> Measure:
        batch = probe_batch(task, rows)
        return lambda model: probe(model, batch)

    return make


def _on_pairs(probe: Callable[[MTPTransformer, Pairs], Result], corrupt: Corruption) -> Make:
    """A probe of a model and clean and corrupted rows for offset 1."""

    def make(task: Task, _n_future: int) -> Measure:
        pairs = make_pairs(probe_batch(task, ABLATION_ROWS), _generator(), corrupt=corrupt)
        return lambda model: probe(model, pairs)

    return make


def _linear(task: Task, n_future: int) -> Measure:
    (train, test), counted = linear_rows(task), counted_rows(task, _generator(), COUNTED)
    targets = token_targets(train, test, max(MOST_AHEAD, n_future), counted)
    if isinstance(task, Polynomial):
        targets += value_targets(task, train, test, counted)
    return LinearProbe(train, test, targets, _generator(), counted)


def _ablation(*, freeze_patterns: bool) -> Make:
    def probe(model: MTPTransformer, batch: Batch) -> AblationEffects:
        return ablate(model, batch, all_components(model), freeze_patterns=freeze_patterns)

    return _on_rows(probe, ABLATION_ROWS)


def _after_ablation(model: MTPTransformer, batch: Batch) -> InductionAfterAblation:
    return induction_after_ablation(model, batch, queries=scored_queries(batch))


def _behaviour(task: Task, _n_future: int) -> Measure:
    return BehaviourProbe(probe_batch(task))


def _of_weights(probe: Callable[[MTPTransformer], Result]) -> Make:
    return lambda _task, _n_future: probe


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
            name="behaviour",
            summary="Loss and accuracy of each offset on rows of the task, and how much context helps.",
            result=Behaviour,
            make=_behaviour,
        ),
        Probe(
            name="composition",
            summary="Q-, K- and V-composition of every trunk head with every later head, minus the random value.",
            result=Composition,
            make=lambda _task, _n_future: CompositionProbe(),
        ),
        Probe(
            name="copying",
            summary="Whether each head's OV circuit copies, by eigenvalues and top-1, directly and through the future heads.",
            result=Copying,
            make=_of_weights(copying),
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
            make=_ablation(freeze_patterns=False),
        ),
        Probe(
            name="direct_ablation",
            summary="Ablation with all attention patterns held at those of the whole model: effects through what is written.",
            result=AblationEffects,
            make=_ablation(freeze_patterns=True),
        ),
        Probe(
            name="induction_after_ablation",
            summary="Induction score of every head while each trunk head is ablated.",
            result=InductionAfterAblation,
            make=_on_rows(_after_ablation, ABLATION_ROWS),
        ),
        Probe(
            name="patch_positions",
            summary="How much of the right answer each layer's residual stream restores, by position (corrupted answer).",
            result=PositionPatching,
            make=_on_pairs(patch_positions, "answer"),
            may_refuse=True,
        ),
        Probe(
            name="patch_heads",
            summary="How much of the right answer each head's output restores (corrupted answer).",
            result=HeadPatching,
            make=_on_pairs(patch_heads, "answer"),
            may_refuse=True,
        ),
        Probe(
            name="patch_heads_match",
            summary="How much of the right answer each head's output restores (corrupted earlier occurrence).",
            result=HeadPatching,
            make=_on_pairs(patch_heads, "match"),
            may_refuse=True,
        ),
        Probe(
            name="path_patching",
            summary="Direct effect of each trunk head on later heads' queries, keys and values (corrupted earlier occurrence).",
            result=PathPatching,
            make=_on_pairs(path_patching, "match"),
            may_refuse=True,
        ),
        Probe(
            name="lens",
            summary="Loss and accuracy when every layer is read through each future head, and directly.",
            result=Lens,
            make=_on_rows(lens, ABLATION_ROWS),
        ),
        Probe(
            name="linear",
            summary="Accuracy of linear read-outs of the next tokens from every layer; baselines: n-grams, shuffled labels.",
            result=LinearProbes,
            make=_linear,
        ),
        Probe(
            name="gradients",
            summary="Size of each offset's gradient at the trunk output, and the cosines between the offsets' gradients.",
            result=GradientShares,
            make=_on_rows(gradient_shares, ABLATION_ROWS),
        ),
        Probe(
            name="agreement",
            summary="How often offset k and, k - 1 tokens later, offset 1 predict the same token.",
            result=OffsetAgreement,
            make=_on_rows(offset_agreement, ABLATION_ROWS),
        ),
    )
}


def find_probe(name: str) -> Probe:
    """A probe by name. Raises ValueError for an unknown name; the message suggests the nearest one."""
    if name not in PROBES:
        raise ValueError(f"there is no probe '{name}'{nearest(name, PROBES)}")
    return PROBES[name]


def check_probes(names: Sequence[str], task: Task, n_future: int) -> None:
    """Raises the errors of `make_probes`, without the time-consuming preparation."""
    make_probes([name for name in names if find_probe(name).may_refuse], task, n_future)


def make_probes(names: Sequence[str], task: Task, n_future: int) -> dict[str, Measure]:
    """Prepare the named probes for a task.

    Raises ValueError for an unknown name, and NoPairs (a ValueError) if the task's rows contain nothing for a probe to measure.
    """
    found = [find_probe(name) for name in names]
    return {probe.name: _made(probe, task, n_future) for probe in found}


def _made(probe: Probe, task: Task, n_future: int) -> Measure:
    try:
        return probe.make(task, n_future)
    except NoPairs as error:
        raise NoPairs(f"the probe {probe.name} cannot be used here: {error}; or leave the probe out") from error
