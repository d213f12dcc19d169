"""What the page Decode draws, computed from a loaded model: prompts, both ways of decoding, how fast each was, trees.

Loads PyTorch, and that only when something is computed. What was decoded is kept beside the model, so that a rerun of the page
that asks for the same again costs nothing.
"""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from playground.generation.config import DecodingConfig
from playground.generation.tree import Tree
from playground.results import Decoding, DecodingSpeed, DecodingStep
from playground.ui.shared.models import Loaded, one_at_a_time

if TYPE_CHECKING:
    from tasks.base import Task

T = TypeVar("T")
MOST_KEPT = 32
"""Decodings kept beside each model, the newest ones."""
NEW_TOKENS = 48
REPEATS, PATIENCE = 3, 0.7
"""Both ways are timed in turns, so often where one turn takes no more than so many seconds, and once where it does."""
TREE_PROMPTS = 16
"""A tree is chosen by how often candidates are right behind so many test prompts."""
_kept: WeakKeyDictionary[Any, OrderedDict[Any, Any]] = WeakKeyDictionary()
"""By model: what is computed from one lives as long as it does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """One prompt, decoded by one model plainly and, where it has drafts, speculatively."""

    plain: Decoding
    speculative: Decoding | None
    speed: DecodingSpeed | None
    """None without drafts, or where the prefill has written all that was wanted."""
    parts_at: int | None
    """First new token at which greedy outputs differ; None where they are the same, and for sampled text."""
    gap: float | None
    """There, how far the two likeliest tokens of plain decoding lie apart, in logits: near 0 is a tie that rounding decides."""


def sample_prompt(task: "Task", number: int) -> tuple[int, ...]:
    """The beginning of a row of the test set: up to the first token that the task scores; where it scores all, half the row."""
    from playground.running.decoding import task_prompts

    return tuple(task_prompts(task, number + 1)[-1])


def usual_length(task: "Task") -> int:
    """New tokens that are written unless told otherwise: an answer where the task has answers."""
    from playground.running.decoding import default_new_tokens

    return min(NEW_TOKENS, default_new_tokens(task))


def n_samples(task: "Task", most: int) -> int:
    """How many rows the test set has, or `most`."""
    return len(task.test_batch(most).tokens)


def reads_joined(task: "Task", tokens: Sequence[int]) -> bool:
    """Whether the task writes tokens without spaces between them, as bytes are written and words are not."""
    pairs = list(zip(tokens, tokens[1:], strict=False))
    joined = [task.decode(pair) == task.decode(pair[:1]) + task.decode(pair[1:]) for pair in pairs]
    return sum(joined) > len(joined) / 2 if joined else False


def token_strings(task: "Task", decodings: Sequence[Decoding]) -> dict[int, str]:
    """Every token of these decodings as text, drafts included."""
    rows = [row for decoding in decodings for row in decoding.decoded]
    used = {token for row in rows for token in (*row.prompt, *row.tokens)}
    steps: list[DecodingStep] = [step for row in rows for step in row.steps]
    used |= {token for step in steps for token in step.emitted}
    used |= {draft.token for step in steps for draft in step.drafts}
    ordered = sorted(used)
    return dict(zip(ordered, task.token_strings(ordered), strict=True))


@one_at_a_time
def decode(
    loaded: Loaded, prompt: tuple[int, ...], config: DecodingConfig, *, seed: int = 0, cached: bool = True
) -> Decoded:
    """Decode a prompt both ways, several times in turns for the clock. Raises ValueError as `generate` does."""
    return _remembered(
        loaded, ("decoded", prompt, config, seed, cached), lambda: _decode(loaded, prompt, config, seed, cached)
    )


@one_at_a_time
def tree_of(loaded: Loaded, nodes: int, *, cached: bool = True) -> Tree:
    """The tree of `nodes` tokens, drafts and the one before them, that accepts most on continued test prompts."""

    def choose() -> Tree:
        from playground.running.decoding import choose_tree, task_prompts

        most = loaded.model.n_ctx - loaded.model.n_future
        prompts = [prompt[:most] for prompt in task_prompts(loaded.task, TREE_PROMPTS)]
        return choose_tree(loaded.model, prompts, nodes, cached=cached)

    return _remembered(loaded, ("tree", nodes, cached), choose)


def _remembered(loaded: Loaded, key: Any, compute: Callable[[], T]) -> T:
    known: OrderedDict[Any, Any] = _kept.setdefault(loaded.model, OrderedDict())
    if key in known:
        known.move_to_end(key)
        return known[key]
    known[key] = value = compute()
    while len(known) > MOST_KEPT:
        known.popitem(last=False)
    return value


def _decode(loaded: Loaded, prompt: tuple[int, ...], config: DecodingConfig, seed: int, cached: bool) -> Decoded:
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
