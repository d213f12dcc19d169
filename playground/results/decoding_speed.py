"""Speed of plain and speculative decoding of one model, measured together, and the quality of the decoded text.

Seconds are wall-clock time after the prefill, for the same model, prompts, batch and dtype, in one process, in alternation:
plain, speculative, plain, .. The spread is that between the repeats.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row
from playground.results.decoding import Acceptance, MarginalAcceptance


@dataclass(frozen=True, kw_only=True)
class DecodingSpeed(Result):
    """Speed-up of speculative over plain decoding, with the counts that explain it."""

    speculative: int
    """K: the offsets 2 .. K drafted."""
    nodes: int
    """Tokens per row in the input of one forward: the last emitted token and its drafts."""
    prompts: int
    batch: int
    """Prompts decoded at once."""
    new_tokens: int
    """Number of tokens that plain decoding emitted for all prompts; speculative decoding emits as many."""
    device: str
    dtype: str
    cached: bool
    identical: bool | None
    """True if both gave the same tokens; None for sampled text, which differs from draw to draw."""
    gap: float
    """Difference in logits between plain decoding's two likeliest tokens at the first token where a row's texts differ, the
    largest over rows. Near zero it was a tie that rounding decides. NaN where no texts differ."""
    plain_seconds: NDArray[np.float64]
    """`[repeat]`, wall-clock seconds after the prefill."""
    speculative_seconds: NDArray[np.float64]
    """`[repeat]`, wall-clock seconds after the prefill."""
    plain_forwards: int
    """Forwards of plain decoding after the prefill; one forward processes all rows of a batch."""
    speculative_forwards: int
    tokens_per_forward: float
    """Tokens that a row gains from one speculative forward, mean over rows and forwards."""
    acceptance: Acceptance
    """Counted while decoding, conditional on the acceptance of all drafts before."""
    marginal: MarginalAcceptance
    """Measured at every position of the plain greedy output."""

    @property
    def speedup(self) -> float:
        """Median plain seconds over median speculative seconds; NaN where nothing was decoded after the prefill."""
        return _ratio(float(np.median(self.plain_seconds)), float(np.median(self.speculative_seconds)))

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of a plain repeat to the speculative repeat that followed it."""
        pairs = zip(self.plain_seconds.tolist(), self.speculative_seconds.tolist(), strict=True)
        ratios = [_ratio(plain, speculative) for plain, speculative in pairs]
        return min(ratios), max(ratios)

    @property
    def plain_seconds_per_forward(self) -> float:
        return _ratio(float(np.median(self.plain_seconds)), self.plain_forwards)

    @property
    def speculative_seconds_per_forward(self) -> float:
        return _ratio(float(np.median(self.speculative_seconds)), self.speculative_forwards)

    @property
    def speedup_by_parts(self) -> float:
        """Tokens per forward over the relative cost of a forward (speculative seconds per forward over plain ones).

        It decomposes the measured speed-up and predicts nothing: both use the same seconds, forwards and tokens. The measured
        speed-up is lower where rows of a batch wait for the slowest row, and where tokens of the last forward are not wanted.
        """
        return self.tokens_per_forward * _ratio(self.plain_seconds_per_forward, self.speculative_seconds_per_forward)

    def rows(self) -> list[Row]:
        """One row: acceptance per offset in percent, ms per forward, speed-up, and whether plain decoding gives the same."""
        low, high = self.spread
        return [
            {
                "K": self.speculative,
                "nodes": self.nodes,
                "batch": self.batch,
                "tokens per forward": self.tokens_per_forward,
                "conditional": _percent(self.acceptance.conditional),
                "marginal": _percent(self.marginal.rate[: self.speculative - 1]),
                "ms": 1000 * self.speculative_seconds_per_forward,
                "plain ms": 1000 * self.plain_seconds_per_forward,
                "by parts": self.speedup_by_parts,
                "speed-up": self.speedup,
                "spread": f"{low:.2f}-{high:.2f}",
                "same": _yes(self.identical),
            }
        ]

    def summary(self) -> dict[str, Any]:
        """`to_dict` plus the derived values, as JSON output for other programs."""
        names = ("speedup", "speedup_by_parts", "plain_seconds_per_forward", "speculative_seconds_per_forward")
        numbers = {name: _finite(getattr(self, name)) for name in names}
        computed = numbers | {"spread": [_finite(value) for value in self.spread]}
        computed["conditional_acceptance"] = [_finite(value) for value in self.acceptance.conditional.tolist()]
        return self.to_dict() | computed


@dataclass(frozen=True, kw_only=True)
class ExactMatch(Result):
    """Exact match of decoded polynomial answers: the share in which every coefficient is right, by number of operations."""

    operations: tuple[int, ...]
    share: NDArray[np.float64]
    """`[number of operations]`: from 0 to 1."""
    chance: NDArray[np.float64]
    """`[number of operations]`: share that the best answer without arithmetic reaches."""
    count: NDArray[np.int64]
    """`[number of operations]`: number of expressions."""
    speculative: int
    tokens_per_forward: float
    """Mean over answers; of an answer of c coefficients at most c - 1 tokens are decoded after the prefill."""

    def rows(self) -> list[Row]:
        """One row per number of operations."""
        columns = zip(self.operations, self.share.tolist(), self.chance.tolist(), self.count.tolist(), strict=True)
        return [
            {"operations": m, "expressions": n, "exact match": share, "chance": chance}
            for m, share, chance, n in columns
        ]


@dataclass(frozen=True, kw_only=True)
class Completions(Result):
    """Continuations of held-out text, compared with the real text position by position."""

    windows: int
    prompt_bytes: int
    new_bytes: int
    """Number of new bytes per window."""
    byte_share: float
    """Share of new bytes that equal the real byte at their position. An inserted byte shifts all later bytes, so that each is
    compared with a wrong position."""
    chance: float
    """The share reached by always writing the most frequent byte."""
    line_share: float
    """Share of lines that are right as a whole; the first line is the rest of the line in which the prompt ends."""
    lines: int
    first_line_share: float
    """Share of first lines that are right as a whole; no earlier mistake of the model affects them."""
    first_lines: int
    speculative: int
    tokens_per_forward: float

    def rows(self) -> list[Row]:
        """One row per score."""
        return [
            {
                "score": "bytes as in the text",
                "of": self.windows * self.new_bytes,
                "share": self.byte_share,
                "chance": self.chance,
            },
            {"score": "whole lines", "of": self.lines, "share": self.line_share, "chance": None},
            {
                "score": "whole lines, rest of the prompt's last line",
                "of": self.first_lines,
                "share": self.first_line_share,
                "chance": None,
            },
        ]


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")


def _finite(value: float) -> float | None:
    return float(f"{value:.8g}") if np.isfinite(value) else None


def _percent(values: NDArray[np.float64]) -> str:
    return " ".join("-" if np.isnan(value) else f"{100 * value:.0f}" for value in values.tolist())


def _yes(value: bool | None) -> str | None:
    return None if value is None else ("yes" if value else "NO")
