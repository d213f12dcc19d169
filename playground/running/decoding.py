"""Decoding with stored runs: load a model, make prompts of its task, choose a tree of drafts, measure the speed."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from playground.commands import resume_line
from playground.generation.config import DecodingConfig
from playground.generation.decoder import Decoder
from playground.generation.generate import generate
from playground.generation.marginal import candidate_hits, marginal_acceptance
from playground.generation.tree import Tree, best_tree
from playground.generation.window import check_prompts, window_start
from playground.model.transformer import MTPTransformer
from playground.results import Decoding, DecodingSpeed
from playground.running.environment import describe_device, pick_device
from playground.runs.errors import RunError
from playground.runs.store import Run
from tasks.base import Task, seeded_generator
from tasks.polynomial import PolynomialConfig

NEW_TOKENS = 64
"""Default number of new tokens after a prompt."""
WARM_UP = 4
"""New tokens decoded before the timing starts."""


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A stored model, ready to decode."""

    run: Run
    step: int
    model: MTPTransformer
    cached: bool
    """False for models with clamped patterns, which cached decoding would ignore; pass it to `generate`."""

    @property
    def task(self) -> Task:
        return self.run.task


def load_for_decoding(run: Run, step: int | None = None, *, device: str = "cpu") -> LoadedRun:
    """The model of a run at a stored step (the last one by default), on `device` (`auto`, `cpu` or `cuda`).

    Raises RunError for a run without weights, a step that is not stored, and weights that cannot be read; ValueError for
    `cuda` where there is none.
    """
    where = pick_device(device)
    steps = run.checkpoints
    if not steps:
        state = run.record.state
        advice = "wait for its first checkpoint" if state == "running" else f"train it: {resume_line(run.path)}"
        raise RunError(f"run {run.id} ({state}) has stored no weights to decode with; {advice}")
    model = run.model(step).to(where)
    cached = not run.config.clamp.changes_patterns
    return LoadedRun(run=run, step=steps[-1] if step is None else step, model=model, cached=cached)


def task_prompts(task: Task, count: int, length: int | None = None) -> list[list[int]]:
    """Prompts from the first `count` rows of the task's fixed test set (or all, if it has fewer).

    With `length`, each is the first `length` tokens of a row. Otherwise each ends before the first scored token, or in the
    middle if all tokens or none are scored. Padding is removed. Raises ValueError for a count or a length below 1.
    """
    for name, value in (("count", count), ("length", length)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; write at least 1")
    batch = task.test_batch(count)
    prompts: list[list[int]] = []
    for tokens, scored, documents in zip(batch.tokens, batch.score_mask, batch.documents, strict=True):
        row = tokens[documents >= 0].tolist()
        first = int(scored.long().argmax())  # 0 if nothing is scored
        cut = length or (first if first > 1 else max(1, len(row) // 2))
        prompts.append(row[:cut])
    return prompts


def prompt_tokens(source: Run | Task, text: str) -> list[int]:
    """The tokens of a text typed by a user. Raises ValueError if the task has no such token, or the text is empty."""
    return (source.task if isinstance(source, Run) else source).encode(text)


def new_token_room(prompts: Sequence[Sequence[int]], n_ctx: int) -> int:
    """Number of new tokens that fit after each of the prompts without sliding; the last one needs no place in the context."""
    return n_ctx + 1 - max(map(len, prompts))


def default_new_tokens(task: Task) -> int:
    """The length of an answer for polynomial tasks, else NEW_TOKENS."""
    return task.config.coefficients if isinstance(task.config, PolynomialConfig) else NEW_TOKENS


def choose_tree(
    model: MTPTransformer, prompts: Sequence[Sequence[int]], nodes: int, *, new_tokens: int = 32, cached: bool = True
) -> Tree:
    """The tree of `nodes` tokens (the last emitted one, and drafts) with the most expected acceptances, estimated on the
    prompts and their greedy continuations. Raises ValueError for fewer than 2 nodes, and for a model with one offset."""
    if nodes < 2:
        raise ValueError(
            f"a tree of {nodes} nodes has no drafts; write at least 2 (the last emitted token and a draft)"
        )
    DecodingConfig(tree=Tree(((0,),))).check(model.config)
    room = min(new_tokens, new_token_room(prompts, model.n_ctx))
    rows, lengths = _rows(
        generate(model, prompts, DecodingConfig(max_new_tokens=max(room, 1)), cached=cached), model.n_ctx
    )
    hits = candidate_hits(model, rows, lengths, min(nodes - 1, model.W_E.shape[0]))
    return best_tree(hits, nodes - 1)


def measure_decoding(
    model: MTPTransformer,
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    repeats: int = 3,
    *,
    batch: int | None = None,
    seed: int = 0,
    cached: bool = True,
) -> DecodingSpeed:
    """Compare plain decoding of the prompts with `config`: both decode alternately, `repeats` times, `batch` rows at a time.

    The default batch is all prompts. With sampling the two texts differ; stop tokens are ignored then, so that both make the
    same number of tokens. Raises ValueError for a configuration without drafts, fewer than one repeat or row at a time, and
    arguments that `generate` rejects.
    """
    if config.drafts.n_nodes == 1:
        raise ValueError(
            "the configuration is plain decoding, and would be compared with itself; write speculative=K or a tree"
        )
    if repeats < 1 or (batch is not None and batch < 1):
        raise ValueError(f"repeats is {repeats} and batch is {batch}; write at least 1")
    greedy = config.sampling.is_greedy
    drafted = config if greedy else dataclasses.replace(config, stop=())
    plain = dataclasses.replace(drafted, speculative=None, tree=None, rule="exact")
    size = batch or len(prompts)
    check_prompts(prompts, plain, model.config)

    @functools.cache
    def decoder(one: DecodingConfig) -> Decode:
        return _decoder(model, one, cached, None if one.sampling.is_greedy else seed)

    def run(one: DecodingConfig) -> tuple[Decoding, int]:
        return _decode(decoder(one), prompts, size, together=cached)

    for one in (plain, drafted):  # on a GPU this also records the graphs
        run(one if model.W_E.device.type == "cuda" else _short(one))
    # Alternately, so that a change of the machine's load affects both.
    pairs = [(run(plain), run(drafted)) for _ in range(repeats)]
    (by_plain, plain_forwards), (by_drafts, forwards) = pairs[0]
    marginal = DecodingConfig(max_new_tokens=config.max_new_tokens, stop=config.stop, overflow=config.overflow)
    reference = by_plain if greedy else run(marginal)[0]
    rows, lengths = _rows(reference, model.n_ctx)
    return DecodingSpeed(
        speculative=config.drafts.speculative,
        nodes=config.drafts.n_nodes,
        prompts=len(prompts),
        batch=size,
        new_tokens=sum(len(row.tokens) for row in by_plain.decoded),
        cached=cached,
        device=describe_device(model.W_E.device, torch.get_num_threads()),
        dtype=str(model.W_E.dtype).removeprefix("torch."),
        identical=_tokens(by_plain) == _tokens(by_drafts) if greedy else None,
        gap=_gap(model, by_plain, by_drafts) if greedy else float("nan"),
        plain_seconds=np.array([one.decode_seconds for (one, _), _ in pairs]),
        speculative_seconds=np.array([one.decode_seconds for _, (one, _) in pairs]),
        plain_forwards=plain_forwards,
        speculative_forwards=forwards,
        tokens_per_forward=by_drafts.tokens_per_forward,
        acceptance=by_drafts.acceptance,
        marginal=marginal_acceptance(model, rows, lengths),
    )


Decode = Callable[[Sequence[Sequence[int]]], Decoding]
"""A function that continues prompts."""


def _decoder(model: MTPTransformer, config: DecodingConfig, cached: bool, seed: int | None) -> Decode:
    """A decoding function for one configuration, with a decoder made once. Every call samples from the same seed."""
    ready = Decoder(model, config) if cached else None

    def decode(prompts: Sequence[Sequence[int]]) -> Decoding:
        generator = None if seed is None else seeded_generator(seed, model.W_E.device)
        if ready is None:
            return generate(model, prompts, config, generator=generator, cached=False)
        return ready.generate(prompts, generator=generator)

    return decode


def _short(config: DecodingConfig) -> DecodingConfig:
    return dataclasses.replace(config, max_new_tokens=min(WARM_UP, config.max_new_tokens))


def _decode(decode: Decode, prompts: Sequence[Sequence[int]], batch: int, *, together: bool) -> tuple[Decoding, int]:
    """Decode all prompts, `batch` at a time, into one result; also returns the number of forwards after the prefills.

    `together`: one forward processes all rows of a batch, as in cached decoding.
    """
    parts = [decode(prompts[start : start + batch]) for start in range(0, len(prompts), batch)]
    count = max if together else sum
    forwards = sum(count(row.forwards for row in part.decoded) for part in parts)
    whole = dataclasses.replace(
        parts[0],
        decoded=tuple(row for part in parts for row in part.decoded),
        prefill_seconds=sum(part.prefill_seconds for part in parts),
        decode_seconds=sum(part.decode_seconds for part in parts),
    )
    return whole, forwards


def _tokens(decoding: Decoding) -> list[tuple[int, ...]]:
    return [row.tokens for row in decoding.decoded]


def _gap(model: MTPTransformer, plain: Decoding, drafted: Decoding) -> float:
    """Largest difference of the two highest logits at the first token that differs, see `DecodingSpeed.gap`; NaN if none."""
    gaps: list[float] = []
    for one, other in zip(plain.decoded, drafted.decoded, strict=True):
        for place, (token, instead) in enumerate(zip(one.tokens, other.tokens, strict=False)):
            if token != instead:
                known = [*one.prompt, *one.tokens[:place]]
                context = torch.tensor([known[window_start(len(known), model.n_ctx) :]], device=model.W_E.device)
                with torch.no_grad():
                    first, second = model(context)[0, -1].float().topk(2).values.tolist()
                gaps.append(first - second)
                break
    return max(gaps, default=float("nan"))


def _rows(decoding: Decoding, n_ctx: int) -> tuple[list[list[int]], list[int]]:
    """Prompts with their continuations, cut to one context, and the lengths of the prompts in them."""
    rows: list[list[int]] = []
    lengths: list[int] = []
    for row in decoding.decoded:
        start = window_start(len(row.prompt), n_ctx)
        rows.append([*row.prompt, *row.tokens][start : start + n_ctx])
        lengths.append(len(row.prompt) - start)
    return rows, lengths
