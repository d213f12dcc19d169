"""Results of decoding, forward by forward: the drafted tokens, the offsets that drafted them, and which were accepted.

The input of one forward of a row is the last emitted token and the drafts that continue it. At each of these tokens offset 1
predicts the next one; drafts that agree with its prediction are accepted, and after the last accepted draft offset 1 adds a
token of its own. So a forward emits at least one token, and with drafts of the offsets 2 .. K at most K. The first forward (the
prefill) reads the prompt and emits one token.

Worked row, K = 3, for a model whose plain continuation is "a b c d":

    forward   input   drafts                accepted    emitted
    prefill   prompt                                    a
    1         a       b (offset 2), x (3)   b           b, c
    2         c       ...

After the prefill, one forward emitted two tokens: two tokens per forward.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row

Ended = Literal["length", "stop"]
"""Reason for which a row ended: the wanted number of tokens, or a stop token."""


@dataclass(frozen=True, kw_only=True)
class Draft(Result):
    """One token that a future head drafted."""

    token: int
    offset: int
    """The offset that drafted it, 2 or more: its position is offset - 1 after the last token emitted before this forward."""
    parent: int
    """Index of the draft that it continues; -1 where it follows the last emitted token directly."""
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class DecodingStep(Result):
    """One forward of one row."""

    drafts: tuple[Draft, ...]
    emitted: tuple[int, ...]
    """The accepted drafts in order, followed by offset 1's own token."""

    def __post_init__(self) -> None:
        if len(self.emitted) != 1 + sum(draft.accepted for draft in self.drafts):
            raise ValueError("a forward emits the accepted drafts and one more token")


@dataclass(frozen=True, kw_only=True)
class DecodedRow(Result):
    """The continuation of one prompt."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """The new tokens, including a stop token."""
    offsets: tuple[int, ...]
    """For each new token the offset that predicted it: 1 for offset 1's own tokens, 2 and more for accepted drafts."""
    steps: tuple[DecodingStep, ...]
    """Every forward, the prefill first. The last one may have emitted more tokens than were wanted."""
    ended: Ended

    @property
    def forwards(self) -> int:
        """Number of forwards after the prefill."""
        return len(self.steps) - 1

    @property
    def emitted(self) -> int:
        """Number of tokens that the forwards after the prefill emitted, including tokens that were not wanted."""
        return sum(len(step.emitted) for step in self.steps[1:])


@dataclass(frozen=True, kw_only=True)
class Decoding(Result):
    """Output of `generate`: every row, and the time it took."""

    decoded: tuple[DecodedRow, ...]
    speculative: int
    """K: the offsets 2 .. K drafted; 1 is plain decoding."""
    exact: bool
    """True if the tokens (when sampled: their distribution) are those of plain decoding."""
    prefill_seconds: float
    decode_seconds: float
    """Wall-clock seconds from the end of the prefill to the end of the last forward."""

    @property
    def tokens_per_forward(self) -> float:
        """Emitted tokens per forward, without the prefill; NaN without forwards after the prefill."""
        forwards = sum(row.forwards for row in self.decoded)
        return sum(row.emitted for row in self.decoded) / forwards if forwards else float("nan")

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all rows, without each row's first, per second of `decode_seconds`."""
        tokens = sum(len(row.tokens) - 1 for row in self.decoded)
        return tokens / self.decode_seconds if self.decode_seconds > 0 else float("nan")

    @property
    def acceptance(self) -> "Acceptance":
        """Acceptance rate of each offset's drafts, given that all drafts before them were accepted."""
        return acceptance([step for row in self.decoded for step in row.steps[1:]], self.speculative)

    def rows(self) -> list[Row]:
        """One line per row of the batch."""
        return [
            {
                "row": index,
                "new tokens": len(row.tokens),
                "forwards": row.forwards,
                "tokens per forward": row.emitted / row.forwards if row.forwards else None,
                "ended": row.ended,
            }
            for index, row in enumerate(self.decoded)
        ]


@dataclass(frozen=True, kw_only=True)
class Acceptance(Result):
    """Acceptance per offset 2 .. K, conditional on the acceptance of all drafts before."""

    offsets: tuple[int, ...]
    accepted: NDArray[np.int64]
    """`[offset]`: number of forwards in which a draft of the offset was accepted."""
    tried: NDArray[np.int64]
    """`[offset]`: number of forwards with a draft of the offset whose preceding drafts were all accepted."""

    @property
    def conditional(self) -> NDArray[np.float64]:
        """`[offset]`: accepted over tried; NaN where none was tried."""
        return np.where(self.tried > 0, self.accepted / np.maximum(self.tried, 1), np.nan)

    @property
    def predicted_tokens_per_forward(self) -> float:
        """1 + the sum over offsets of the product of the conditional acceptance rates up to that offset.

        >>> Acceptance(offsets=(2, 3), accepted=np.array([8, 4]), tried=np.array([10, 8])).predicted_tokens_per_forward
        2.2
        """
        reached = np.cumprod(np.nan_to_num(self.conditional))
        return float(round(1 + reached.sum(), 12))

    def rows(self) -> list[Row]:
        """One line per offset."""
        columns = zip(self.offsets, self.accepted.tolist(), self.tried.tolist(), self.conditional.tolist(), strict=True)
        return [
            {"offset": offset, "accepted": accepted, "tried": tried, "conditional acceptance": rate if tried else None}
            for offset, accepted, tried, rate in columns
        ]


def acceptance(steps: list[DecodingStep], speculative: int) -> Acceptance:
    """Count over forwards: a draft counts as tried if all drafts that it continues were accepted."""
    offsets = tuple(range(2, speculative + 1))
    tried = np.zeros(len(offsets), dtype=np.int64)
    accepted = np.zeros(len(offsets), dtype=np.int64)
    for step in steps:
        reached = [draft for draft in step.drafts if draft.parent < 0 or step.drafts[draft.parent].accepted]
        for index, offset in enumerate(offsets):
            of_offset = [draft.accepted for draft in reached if draft.offset == offset]
            tried[index] += bool(of_offset)
            accepted[index] += any(of_offset)
    return Acceptance(offsets=offsets, accepted=accepted, tried=tried)


@dataclass(frozen=True, kw_only=True)
class MarginalAcceptance(Result):
    """How often the likeliest token of each offset is the token that plain greedy decoding emits there, at every position."""

    offsets: tuple[int, ...]
    """2 .. n_future."""
    rate: NDArray[np.float64]
    """`[offset]`: share of positions, from 0 to 1."""
    conditional: NDArray[np.float64]
    """`[offset]`: share of the positions at which the likeliest tokens of all smaller offsets from 2 on were right."""
    count: int
    """Number of positions for offset 2; a further offset has fewer, because its target must lie within the row."""

    def rows(self) -> list[Row]:
        """One line per offset."""
        return [
            {"offset": offset, "marginal acceptance": rate, "conditional acceptance": conditional}
            for offset, rate, conditional in zip(
                self.offsets, self.rate.tolist(), self.conditional.tolist(), strict=True
            )
        ]
