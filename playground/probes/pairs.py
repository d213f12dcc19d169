"""Clean and corrupted rows that differ in one known fact: the token that followed an earlier occurrence of the current token.

Random-token corruption (Zhang & Nanda 2023, 2309.16042): in the corrupted row a token is exchanged for another plausible one. A
query is a position whose token occurred before, and whose continuation repeats that of the earlier occurrence. There are two
kinds of corruption, because the two halves of an induction circuit (Olsson et al. 2022, 2209.11895) carry different facts:

- `answer`: the token that FOLLOWED the earlier occurrence is exchanged, so that the row implies another answer. It shows how
  the answer is carried: from the source through the value of an induction head. The attended position is unchanged: keys and
  queries carry nothing.
- `match`: the earlier OCCURRENCE is exchanged, so that nothing matches. It shows how the position is found: from the
  occurrence through a previous-token head into the key of an induction head. The source token is unchanged.

Worked row, offset 1: the query is position 6 (the second 2), its source position 2, the right answer 5, the wrong one 9.

    position             0   1   2   3   4   5   6   7
    clean                7   2   5   8   1   7   2   5
    corrupted (answer)   7   2   9   8   1   7   2   5
    corrupted (match)    7   4   5   8   1   7   2   5

For offset k the source is k positions after the earlier occurrence, and the answer k positions after the query.

Dimension letters: B row, T position (query), S source position.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from playground.model.patterns import match_mask
from playground.model.transformer import MTPTransformer
from playground.probes.probe import MANY_ROWS, Make, probe_generator
from playground.probes.repeated import Measure
from playground.probes.rows import probe_batch
from playground.results import Result
from tasks.base import Batch, Device, Task
from tasks.targets import IGNORED, future_targets, score_targets

Corruption = Literal["answer", "match"]
"""The exchanged token: the one after the earlier occurrence, or the earlier occurrence itself."""


class NoPairs(ValueError):
    """Raised if no row contains a query to patch."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows with one query each, clean and corrupted."""

    clean: Int[Tensor, "row pos"]
    corrupted: Int[Tensor, "row pos"]
    sources: Bool[Tensor, "row pos"]
    """Positions that hold the right answer, `offset` after an earlier occurrence of the query's token."""
    query: Int[Tensor, " row"]
    """Position at which the answer is predicted."""
    answer: Int[Tensor, " row"]
    """The right answer: the token `offset` after the query."""
    wrong: Int[Tensor, " row"]
    """The answer that the right one is compared with; with `answer` corruption the corrupted row implies it."""
    offset: int
    """Distance from query to answer: the offset whose logits are read."""

    @property
    def occurrences(self) -> Bool[Tensor, "row pos"]:
        """Positions of the earlier occurrences that belong to the sources, `offset` before them."""
        return torch.roll(self.sources, -self.offset, dims=1)  # no source is below `offset`: nothing wraps round

    @property
    def source(self) -> Int[Tensor, " row"]:
        """Position of the last source in each row."""
        positions = torch.arange(self.sources.shape[1], device=self.sources.device)
        return (self.sources * positions).amax(dim=1)

    def to(self, device: Device) -> "Pairs":
        """A copy of the pairs on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, which: Int[Tensor, " kept"]) -> "Pairs":
        """The pairs with these row indices."""
        return self._map(lambda tensor: tensor[which])

    def roles(self) -> tuple[tuple[str, ...], ...]:
        """`[row][position]`: `before source` (an earlier occurrence), `source`, `query` or `other`; one role per position."""
        names = ("other", "source", "before source", "query")
        number = self.sources + 2 * self.occurrences.long()
        number[torch.arange(len(number), device=number.device), self.query] = names.index("query")
        return tuple(tuple(names[one] for one in row) for row in number.tolist())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Pairs":
        tensors = {name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **tensors)


def make_pairs(
    batch: Batch, generator: torch.Generator, *, offset: int = 1, rows: int = 16, corrupt: Corruption = "answer"
) -> Pairs:
    """Pairs from the first `rows` rows of `batch` that have a query, on the CPU. `generator` (on the CPU) draws.

    One query per row is drawn from those with the fewest sources (see `source_mask`): if one position holds the whole
    fact, patching that position can restore the whole answer. All sources of the query (`answer`), or all their occurrences
    (`match`), are exchanged for one token. For `answer` it is the wrong answer, drawn from the distinct answers to the queries
    of this batch (in stories, another second part of a name); for `match` it is drawn from the tokens at those queries. Neither
    is the right answer or the query's own token. Rows for which no such token exists are skipped.

    Raises ValueError for fewer than one row and an offset below 1, and NoPairs, a ValueError, when no row is left.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; write at least 1")
    batch = batch.to("cpu")
    tokens_BT, answers_BT, sources_BTS = batch.tokens, future_targets(batch, offset), source_mask(batch, offset)
    asked_BT = _asked(batch, offset)
    answers, askers = (set(tokens[asked_BT].tolist()) for tokens in (answers_BT, tokens_BT))
    pools = (answers,) if corrupt == "answer" else (answers, askers)  # first: wrong answers; last: tokens to insert
    found: list[tuple[int, ...]] = []
    for row in sources_BTS.any(dim=(1, 2)).nonzero().flatten().tolist():
        query = _draw(_queries(sources_BTS[row]), generator)
        choices = [pool - {int(tokens_BT[row, query]), int(answers_BT[row, query])} for pool in pools]
        if all(choices):
            drawn = [_draw(choice, generator) for choice in choices]
            found.append((row, query, drawn[0], drawn[-1]))
    if not found:
        raise NoPairs(
            f"in none of the {len(tokens_BT)} rows does a scored token repeat the token that stood {offset} after an earlier "
            "occurrence (and another answer could stand there); pass longer rows or more rows of a task that repeats "
            "itself, such as induction, or for offset 1 stories"
        )
    row_B, query_B, wrong_B, new_B = torch.tensor(found[:rows]).unbind(dim=1)
    sources_BS = sources_BTS[row_B, query_B]
    exchanged_BS = sources_BS if corrupt == "answer" else sources_BS.roll(-offset, dims=1)
    return Pairs(
        clean=tokens_BT[row_B],
        corrupted=torch.where(exchanged_BS, new_B[:, None], tokens_BT[row_B]),
        sources=sources_BS,
        query=query_B,
        answer=answers_BT[row_B, query_B],
        wrong=wrong_B,
        offset=offset,
    )


def source_mask(batch: Batch, offset: int = 1) -> Bool[Tensor, "batch pos pos"]:
    """`[row, query, source]`: True where s is a source of the query q: s is `offset` after an earlier occurrence of tokens[q],
    at or before q, and holds the token `offset` after q.

    A position is a query if the task scores its next token, if the token `offset` ahead is a target and differs from the
    query's own token, and if at least one of the earlier occurrences is in its own document. Sources in other documents count
    too, because attention crosses document boundaries.
    """
    tokens_BT, answers_BT = batch.tokens, future_targets(batch, offset)
    says_BTS = match_mask(tokens_BT, offset) & (tokens_BT[:, None, :] == answers_BT[:, :, None])
    document_of_occurrence_BS = batch.documents.roll(offset, dims=1)  # entries that wrap round belong to no source
    same_BTS = document_of_occurrence_BS[:, None, :] == batch.documents[:, :, None]
    # An answer equal to the query's own token would make sources occurrences too: exchanging one would break the other.
    is_query_BT = _asked(batch, offset) & (answers_BT != tokens_BT) & (says_BTS & same_BTS).any(dim=2)
    return says_BTS & is_query_BT[:, :, None]


def _asked(batch: Batch, offset: int) -> Bool[Tensor, "batch pos"]:
    """Positions whose next token the task scores, and that have a target `offset` ahead."""
    return (score_targets(batch, 1) != IGNORED) & (future_targets(batch, offset) != IGNORED)


def _queries(sources_TS: Bool[Tensor, "pos pos"]) -> set[int]:
    """The positions with the fewest sources, of those that have any."""
    counts_T = sources_TS.sum(dim=1)
    return set((counts_T == counts_T[counts_T > 0].min()).nonzero().flatten().tolist())


def _draw(choices: set[int], generator: torch.Generator) -> int:
    return sorted(choices)[int(torch.randint(len(choices), (), generator=generator))]


def on_pairs(probe: Callable[[MTPTransformer, Pairs], Result], corrupt: Corruption) -> Make:
    """A probe of a model and clean and corrupted rows of the task, for offset 1. Preparing it may raise NoPairs."""

    def make(task: Task, _n_future: int) -> Measure:
        pairs = make_pairs(probe_batch(task, MANY_ROWS), probe_generator(), corrupt=corrupt)
        return lambda model: probe(model, pairs)

    return make
