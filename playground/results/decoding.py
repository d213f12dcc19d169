"""What decoding did, forward by forward: which tokens were drafted by which offset, which of them were accepted.

One forward of a row is fed the last token emitted and the drafts behind it. Offset 1 says at each of them what comes next; the
drafts it agrees with are accepted, and behind the last of these it adds a token of its own. So a forward emits at least one
token, and with drafts of the offsets 2 .. K at most K. The first forward (the prefill) reads the prompt and emits one token.

Worked row, K = 3, the model about to say "a b c d":

    forward   fed     drafts behind it     accepted    emitted
    prefill   prompt                                   a
    1         a       b (offset 2), x (3)  b           b, c
    2         c       ...

Two tokens in one forward behind the prefill: two tokens per forward.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row

Ended = Literal["length", "stop"]
"""Why a row ended: enough tokens, or a stop token."""


@dataclass(frozen=True, kw_only=True)
class Draft(Result):
    """One token that a future head proposed."""

    token: int
    offset: int
    """The offset that proposed it, 2 or more: it stands offset - 1 tokens behind the last token emitted before."""
    parent: int
    """Index of the draft it continues; -1 where it follows the last token emitted."""
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class DecodingStep(Result):
    """One forward of one row."""

    drafts: tuple[Draft, ...]
    emitted: tuple[int, ...]
    """The accepted drafts in order, and last offset 1's own token."""

    def __post_init__(self) -> None:
        if len(self.emitted) != 1 + sum(draft.accepted for draft in self.drafts):
            raise ValueError("a forward emits the accepted drafts and one more token")


@dataclass(frozen=True, kw_only=True)
class DecodedRow(Result):
    """What one prompt became."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """The new tokens, a stop token included."""
    offsets: tuple[int, ...]
    """For each new token the offset that proposed it: 1 for offset 1's own, 2 and more for accepted drafts."""
    steps: tuple[DecodingStep, ...]
    """Every forward, the prefill first. The last one may have emitted more than was still wanted."""
    ended: Ended

    @property
    def forwards(self) -> int:
        """Forwards behind the prefill."""
        return len(self.steps) - 1

    @property
    def emitted(self) -> int:
        """Tokens that these forwards emitted, wanted or not."""
        return sum(len(step.emitted) for step in self.steps[1:])


@dataclass(frozen=True, kw_only=True)
class Decoding(Result):
    """What `generate` gives: every row, and the time it took."""

    decoded: tuple[DecodedRow, ...]
    speculative: int
    """K: drafts came from the offsets 2 .. K; 1 is plain decoding."""
    exact: bool
    """Whether the tokens are those (or have the distribution) of plain decoding."""
    prefill_seconds: float
    decode_seconds: float
    """Wall-clock time of all forwards behind the prefill, with everything between them."""

    @property
    def tokens_per_forward(self) -> float:
        """Emitted tokens over forwards, without the prefill; NaN before there are any."""
        forwards = sum(row.forwards for row in self.decoded)
        return sum(row.emitted for row in self.decoded) / forwards if forwards else float("nan")

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all rows behind the first, per second of `decode_seconds`."""
        tokens = sum(len(row.tokens) - 1 for row in self.decoded)
        return tokens / self.decode_seconds if self.decode_seconds > 0 else float("nan")

    @property
    def acceptance(self) -> "Acceptance":
        """How often drafts of each offset were accepted, given that those before them were."""
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
    """Acceptance per offset 2 .. K, conditional on the drafts before having been accepted."""

    offsets: tuple[int, ...]
    accepted: NDArray[np.int64]
    """`[offset]`: in how many forwards a draft of the offset was accepted."""
    tried: NDArray[np.int64]
    """`[offset]`: in how many there was one, behind accepted ones only."""

    @property
    def conditional(self) -> NDArray[np.float64]:
        """`[offset]`: accepted over tried; NaN where none was tried."""
        return np.where(self.tried > 0, self.accepted / np.maximum(self.tried, 1), np.nan)

    @property
    def predicted_tokens_per_forward(self) -> float:
        """1 + the sum over offsets of the product of the conditional acceptances up to there.

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
    """Count over forwards: a draft counts as tried where all drafts that it continues were accepted."""
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
    """How often the favourite of each offset is the token that plain greedy decoding emits there, at every position."""

    offsets: tuple[int, ...]
    """2 .. n_future."""
    rate: NDArray[np.float64]
    """`[offset]`: the share of positions."""
    conditional: NDArray[np.float64]
    """`[offset]`: the same share where the favourites of all offsets from 2 up to there were right as well."""
    count: int
    """Over how many positions."""

    def rows(self) -> list[Row]:
        """One line per offset."""
        return [
            {"offset": offset, "marginal acceptance": rate, "conditional acceptance": conditional}
            for offset, rate, conditional in zip(
                self.offsets, self.rate.tolist(), self.conditional.tolist(), strict=True
            )
        ]
