"""Computations of the Heads page on stored models: patterns, ablations, composition. Cached; torch is imported only here."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from playground.results import AblationEffects, AblationMethod, AttentionScores, Composition, Head
from playground.ui.shared.models import Loaded, is_large, kept, one_at_a_time

if TYPE_CHECKING:
    from playground.probes.ablation import Ablator
    from tasks.base import Batch

ROWS, FEWER_ROWS = 64, 16
"""Test rows that ablations are measured on; fewer for large models."""
DRAWS = 5
"""Draws of random other heads, as controls."""


@one_at_a_time
@kept(32)
def patterns(loaded: Loaded, tokens: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    """`[head, query, key]`: the attention pattern of every layer on one row."""
    import torch

    from playground.probes.attention_scores import attention_patterns

    found = attention_patterns(loaded.model, torch.tensor([tokens]))
    return {layer: pattern[0].cpu().numpy() for layer, pattern in found.items()}


@kept(32)
def induction_targets(tokens: tuple[int, ...]) -> NDArray[np.bool_]:
    """`[query, key]`: where an ideal induction head attends."""
    import torch

    from playground.model.patterns import match_mask

    return match_mask(torch.tensor([tokens]), 1)[0].numpy()


@one_at_a_time
@kept(16)
def composition_of(loaded: Loaded) -> Composition:
    """Composition, computed from the weights."""
    from playground.probes.composition import composition

    return composition(loaded.model)


@one_at_a_time
@kept(16)
def scores_on_task(loaded: Loaded) -> AttentionScores:
    """Attention scores on rows of the task, as the probe `task_attention` measures them during training."""
    from playground.probes.registry import make_probes

    measured = make_probes(["task_attention"], loaded.task, loaded.model.n_future)["task_attention"](loaded.model)
    assert isinstance(measured, AttentionScores)
    return measured


@kept(8)
def test_rows(loaded: Loaded) -> "Batch":
    """The test rows that ablations are measured on."""
    from playground.probes.rows import probe_batch

    return probe_batch(loaded.task, FEWER_ROWS if is_large(loaded) else ROWS)


@kept(12)
def ablator(loaded: Loaded, method: AblationMethod) -> "Ablator":
    """The ablator with the activations of the test rows."""
    from playground.probes.ablation import Ablator

    rows = test_rows(loaded)
    return Ablator(loaded.model, rows.tokens, places=rows.alignment, method=method)


@one_at_a_time
@kept(16)
def whole(loaded: Loaded) -> NDArray[np.float64]:
    """`[2, batch, offset]`: loss and accuracy of the whole model."""
    from playground.probes.ablation import scores_by_batch

    return scores_by_batch(loaded.model, test_rows(loaded))


@one_at_a_time
@kept(256)
def without(loaded: Loaded, sets: tuple[tuple[str, ...], ...], method: AblationMethod) -> AblationEffects:
    """The effect of ablating each of several sets of components, as `playground.probes.ablation.ablate` returns it.

    Not `ablate` itself, which would run the whole model again for every choice on the page.
    """
    from playground.probes.ablation import SET, effects_of, scores_by_batch

    names = [SET.join(components) for components in sets]
    rows = test_rows(loaded)
    clean = whole(loaded)
    taken = [scores_by_batch(loaded.model, rows, _prepared(loaded, method), name) if name else clean for name in names]
    return effects_of(names, method, clean, taken)


@one_at_a_time
@kept(64)
def seconds_to_measure(loaded: Loaded) -> float:
    """Duration of one measurement on the test rows, timed once per model."""
    from playground.probes.ablation import scores_by_batch

    rows = test_rows(loaded)
    started = time.perf_counter()
    scores_by_batch(loaded.model, rows)
    return time.perf_counter() - started


def random_sets(heads: Sequence[Head], count: int, draws: int = DRAWS) -> tuple[tuple[str, ...], ...]:
    """Up to `draws` different sets of `count` heads, equal in every call; all possible sets if there are not more."""
    if not heads or count < 1:
        return ()
    if count >= len(heads):
        return (tuple(map(str, heads)),)
    random = np.random.default_rng(count)
    picks = (sorted(random.choice(len(heads), count, replace=False).tolist()) for _ in range(draws))
    return tuple(dict.fromkeys(tuple(str(heads[index]) for index in pick) for pick in picks))


@one_at_a_time
@kept(64)
def predicted(
    loaded: Loaded,
    tokens: tuple[int, ...],
    components: tuple[str, ...],
    method: AblationMethod,
    places: tuple[int, ...],
    number: int = 0,
) -> NDArray[np.int64]:
    """`[offset, position]`: the token that each offset predicts at each position, with the components ablated.

    `places` holds the place of each token (`Batch.alignment`). `number` is the row's index in the test set, so that resampling
    never gives the row its own activations.
    """
    import torch

    from playground.probes.ablation import predicted_tokens

    source = _prepared(loaded, method)
    hooks = source.hooks(list(components), first_row=number, places=torch.tensor([places])) if components else []
    return predicted_tokens(loaded.model, torch.tensor([tokens]), hooks)[0]


def all_parts(loaded: Loaded) -> tuple[tuple[str, ...], ...]:
    """Every head, every layer's attention and every MLP, each as a set of its own."""
    from playground.probes.ablation import all_components

    return tuple((name,) for name in all_components(loaded.model))


def has_mlps(loaded: Loaded) -> bool:
    return loaded.model.config.mlp != "none"


def _prepared(loaded: Loaded, method: AblationMethod) -> "Ablator":
    """The ablator with a fixed seed: it resamples from the same rows in every call."""
    from playground.probes.ablation import SEED
    from tasks.base import seeded_generator

    source = ablator(loaded, method)
    source.generator = seeded_generator(SEED)
    return source
