"""Scores of decoded text: exactly right polynomial answers, and held-out text that is continued correctly."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.generation.tree import Tree
from playground.results import Completions, Decoding, ExactMatch
from playground.running.decoding import LoadedRun, task_prompts
from tasks.byte_text import ByteTextConfig
from tasks.polynomial import Polynomial, PolynomialConfig

LINE_END = ord("\n")


def score_decoded(loaded: LoadedRun, drafts: Tree, count: int | None = None) -> ExactMatch | Completions:
    """The decoding score of the run's task, decoded with `drafts` (empty: plain decoding).

    `count` is the number of test expressions per number of operations (`exact_match`), or of held-out windows
    (`completion_accuracy`); by default 100 and 256. Raises ValueError for a task without a decoding score.
    """
    tree = drafts if drafts.paths else None
    if isinstance(loaded.task.config, PolynomialConfig):
        return exact_match(loaded, tree=tree) if count is None else exact_match(loaded, None, count, tree=tree)
    if isinstance(loaded.task.config, ByteTextConfig):
        return (
            completion_accuracy(loaded, tree=tree)
            if count is None
            else completion_accuracy(loaded, None, count, tree=tree)
        )
    raise ValueError(
        f"run {loaded.run.id} is of the task {loaded.task.config.name}; decoded text has a score for the tasks "
        f"{PolynomialConfig.name} and {ByteTextConfig.name}"
    )


def exact_match(
    loaded: LoadedRun, speculative: int | None = None, count: int = 100, *, tree: Tree | None = None, batch: int = 256
) -> ExactMatch:
    """Decode greedily the answers to `count` test expressions for each scored number of operations m.

    On a CPU the share equals that of the task's own evaluation, which needs one forward. Raises ValueError for a run of another
    task, a count above that of the test set, and arguments that `generate` rejects.
    """
    task = loaded.task
    config = task.config
    if not isinstance(config, PolynomialConfig):
        raise ValueError(
            f"run {loaded.run.id} is of the task {task.config.name}; exact match is for answers to polynomials"
        )
    assert isinstance(task, Polynomial)
    if not 1 <= count <= config.test_per_m:
        raise ValueError(f"count is {count}; write 1 to {config.test_per_m} expressions per number of operations")
    rows = task.test_batch(count * config.test_operations)
    decoding = _greedy(loaded, task_prompts(task, len(rows.tokens)), config.coefficients, speculative, tree, batch)
    given = torch.tensor([row.tokens for row in decoding.decoded])
    answers = _answers(rows.tokens, rows.score_mask, config.coefficients)
    right = (given == answers).all(dim=1).view(count, config.test_operations).double().mean(dim=0)
    operations = tuple(range(1, config.test_operations + 1))
    return ExactMatch(
        operations=operations,
        share=right.numpy(),
        chance=np.array([task.chance(m) for m in operations]),
        count=np.full(config.test_operations, count),
        speculative=decoding.speculative,
        tokens_per_forward=decoding.tokens_per_forward,
    )


def completion_accuracy(
    loaded: LoadedRun, speculative: int | None = None, count: int = 256, *, tree: Tree | None = None, batch: int = 256
) -> Completions:
    """Continue `count` held-out windows greedily from their middle to their end, and compare with the real text.

    Raises ValueError for a run of another task, a count below 1, and arguments that `generate` rejects.
    """
    task = loaded.task
    if not isinstance(task.config, ByteTextConfig):
        raise ValueError(f"run {loaded.run.id} is of the task {task.config.name}; completions are compared for bytes")
    prompts = task_prompts(task, count)
    start = len(prompts[0])
    real = task.test_batch(count).tokens[:, start:]
    decoding = _greedy(loaded, prompts, real.shape[1], speculative, tree, batch)
    right = torch.tensor([row.tokens for row in decoding.decoded]) == real
    lines = [_whole_lines(row, same) for row, same in zip(real, right, strict=True)]
    first = [whole[0] for whole in lines if whole]
    every = [line for whole in lines for line in whole]
    return Completions(
        windows=len(prompts),
        prompt_bytes=start,
        new_bytes=real.shape[1],
        byte_share=float(right.double().mean()),
        chance=float(real.flatten().bincount().max()) / real.numel(),
        line_share=_mean(every),
        lines=len(every),
        first_line_share=_mean(first),
        first_lines=len(first),
        speculative=decoding.speculative,
        tokens_per_forward=decoding.tokens_per_forward,
    )


def _greedy(
    loaded: LoadedRun,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    speculative: int | None,
    tree: Tree | None,
    batch: int,
) -> Decoding:
    """Decode all prompts greedily, `batch` at a time."""
    config = DecodingConfig(max_new_tokens=new_tokens, speculative=speculative, tree=tree)
    parts = [
        generate(loaded.model, prompts[start : start + batch], config, cached=loaded.cached)
        for start in range(0, len(prompts), batch)
    ]
    return dataclasses.replace(parts[0], decoded=tuple(row for part in parts for row in part.decoded))


def _answers(tokens: Tensor, score_mask: Tensor, coefficients: int) -> Tensor:
    return tokens[score_mask].view(-1, coefficients)


def _whole_lines(real: Tensor, right: Tensor) -> list[bool]:
    """For every line that ends in the real text, True if all its bytes are right, including the line end.

    >>> _whole_lines(torch.tensor([65, 10, 66, 67, 10, 68]), torch.tensor([True, True, True, False, True, True]))
    [True, False]
    """
    whole: list[bool] = []
    start = 0
    for end in (real == LINE_END).nonzero()[:, 0].tolist():
        whole.append(bool(right[start : end + 1].all()))
        start = end + 1
    return whole


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
