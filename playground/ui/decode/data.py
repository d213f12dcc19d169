"""Computations of the page Decode on a loaded model: prompts, plain and speculative decoding, their speed, draft trees.

Imports PyTorch only when something is computed. Decodings are kept, so that a rerun of the page with unchanged settings
computes nothing.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.generation.config import DecodingConfig
from playground.generation.tree import Tree
from playground.results import Decoding, DecodingSpeed, DecodingStep
from playground.ui.shared.models import Loaded, kept, one_at_a_time

if TYPE_CHECKING:
    from tasks.base import Task

MOST_KEPT = 64
"""Decodings, and trees, that are kept: the newest."""
NEW_TOKENS = 48
REPEATS, PATIENCE = 3, 0.7
"""Timing repeats, plain and speculative in alternation; only one repeat if the first takes more than PATIENCE seconds."""
TREE_PROMPTS = 16
"""Test prompts on which the acceptance of candidates is measured, to choose a tree."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """One prompt decoded by one model: plainly and, if the model drafts, speculatively."""

    plain: Decoding
    speculative: Decoding | None
    speed: DecodingSpeed | None
    """None without drafts, or if the prefill wrote all wanted tokens."""
    parts_at: int | None
    """Index of the first new token at which greedy outputs differ; None if they are equal, and for sampled text."""
    gap: float | None
    """Difference of plain decoding's two largest logits at that token: near 0 is a tie that rounding decides."""


def sample_prompt(task: "Task", number: int) -> tuple[int, ...]:
    """The beginning of a test row, up to the first token that the task scores; half the row if the task scores all tokens."""
    from playground.running.decoding import task_prompts

    return tuple(task_prompts(task, number + 1)[-1])


def usual_length(task: "Task") -> int:
    """Default number of new tokens: the length of an answer if the task has answers."""
    from playground.running.decoding import default_new_tokens

    return min(NEW_TOKENS, default_new_tokens(task))


def n_samples(task: "Task", most: int) -> int:
    """Number of rows in the test set, at most `most`."""
    return len(task.test_batch(most).tokens)


def reads_joined(task: "Task", tokens: Sequence[int]) -> bool:
    """True if the task writes tokens without spaces between them (bytes), False if with spaces (words)."""
    pairs = list(zip(tokens, tokens[1:], strict=False))
    joined = [task.decode(pair) == task.decode(pair[:1]) + task.decode(pair[1:]) for pair in pairs]
    return sum(joined) > len(joined) / 2 if joined else False


def token_strings(task: "Task", decodings: Sequence[Decoding]) -> dict[int, str]:
    """Every token of these decodings and their drafts as text, by token id."""
    rows = [row for decoding in decodings for row in decoding.decoded]
    used = {token for row in rows for token in (*row.prompt, *row.tokens)}
    steps: list[DecodingStep] = [step for row in rows for step in row.steps]
    used |= {token for step in steps for token in step.emitted}
    used |= {draft.token for step in steps for draft in step.drafts}
    ordered = sorted(used)
    return dict(zip(ordered, task.token_strings(ordered), strict=True))


@one_at_a_time
@kept(MOST_KEPT)
def decode(
    loaded: Loaded, prompt: tuple[int, ...], config: DecodingConfig, *, seed: int = 0, cached: bool = True
) -> Decoded:
    """Decode a prompt plainly and speculatively, with repeats for the timing. Raises ValueError as `generate` does."""
    from playground.generation.generate import generate
    from playground.running.decoding import measure_decoding
    from tasks.base import seeded_generator

    def write(how: DecodingConfig) -> Decoding:
        generator = None if how.sampling.is_greedy else seeded_generator(seed, loaded.model.W_E.device)
        return generate(loaded.model, [prompt], how, generator=generator, cached=cached)

    begun = time.perf_counter()
    plain = write(dataclasses.replace(config, speculative=None, tree=None, rule="exact"))
    if config.drafts.n_nodes == 1:
        return Decoded(plain=plain, speculative=None, speed=None, parts_at=None, gap=None)
    speculative = write(config)
    repeats = REPEATS if time.perf_counter() - begun < PATIENCE else 1
    speed, parts_at = None, None
    if plain.decoded[0].forwards and speculative.decoded[0].forwards:
        speed = measure_decoding(loaded.model, [prompt], config, repeats, seed=seed, cached=cached)
    if config.sampling.is_greedy:
        both = zip(plain.decoded[0].tokens, speculative.decoded[0].tokens, strict=False)
        parts_at = next((place for place, (one, other) in enumerate(both) if one != other), None)
    gap = None if parts_at is None else _gap(loaded, plain, parts_at)
    return Decoded(plain=plain, speculative=speculative, speed=speed, parts_at=parts_at, gap=gap)


@one_at_a_time
@kept(MOST_KEPT)
def tree_of(loaded: Loaded, nodes: int, *, cached: bool = True) -> Tree:
    """The tree of `nodes` tokens (drafts and the token before them) with the highest acceptance on continued test prompts."""
    from playground.running.decoding import choose_tree, task_prompts

    most = loaded.model.n_ctx - loaded.model.n_future
    prompts = [prompt[:most] for prompt in task_prompts(loaded.task, TREE_PROMPTS)]
    return choose_tree(loaded.model, prompts, nodes, cached=cached)


def _gap(loaded: Loaded, plain: Decoding, place: int) -> float:
    import torch

    from playground.generation.window import window_start

    row = plain.decoded[0]
    known = [*row.prompt, *row.tokens[:place]]
    context = known[window_start(len(known), loaded.model.n_ctx) :]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([context], device=loaded.model.W_E.device), (1,))[0, -1, 0].float()
    first, second = logits.topk(2).values.tolist()
    return first - second
