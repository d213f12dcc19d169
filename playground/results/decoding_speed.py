"""Plain and speculative decoding of one model, measured side by side; and how good what was decoded is.

Seconds are wall-clock time behind the prefill, of the same model, prompts, batch and dtype, in one process, in turns: plain,
speculative, plain, .. Spread is that between the repeats.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row
from playground.results.decoding import Acceptance, MarginalAcceptance


@dataclass(frozen=True, kw_only=True)
class DecodingSpeed(Result):
    """How much faster speculative decoding was, and why."""

    speculative: int
    """K: drafts came from the offsets 2 .. K."""
    nodes: int
    """Tokens a row is fed in one forward: the last token emitted and its drafts."""
    prompts: int
    batch: int
    """Prompts decoded at once."""
    new_tokens: int
    """Tokens that plain decoding made of all prompts; speculative decoding makes as many."""
    device: str
    dtype: str
    cached: bool
    identical: bool | None
    """Whether both gave the same tokens; None for sampled text, which differs from draw to draw."""
    gap: float
    """How far apart, in logits, plain decoding's two likeliest tokens were where a row's texts part, the most of all rows: near
    zero it was a tie, which rounding decides. NaN where none part."""
    plain_seconds: NDArray[np.float64]
    """`[repeat]`"""
    speculative_seconds: NDArray[np.float64]
    """`[repeat]`"""
    plain_forwards: int
    """Forwards of the model behind the prefill; one serves all rows of a batch."""
    speculative_forwards: int
    tokens_per_forward: float
    """Tokens a row gets from one speculative forward, mean over rows and forwards."""
    acceptance: Acceptance
    """Counted while decoding: conditional on the drafts before having been accepted."""
    marginal: MarginalAcceptance
    """At every position of the plain greedy output."""

    @property
    def speedup(self) -> float:
        """Median plain seconds over median speculative seconds; NaN where nothing was decoded behind the prefill."""
        return _ratio(float(np.median(self.plain_seconds)), float(np.median(self.speculative_seconds)))

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of a plain repeat and the speculative one behind it."""
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
        """Tokens per forward over the cost of a forward, which is seconds of a speculative one over seconds of a plain one.

        It takes the measured speed-up apart and predicts nothing: both are of the same seconds, forwards and tokens. The
        measured one is lower where rows of a batch wait for the slowest, and where tokens of the last forward are not wanted.
        """
        return self.tokens_per_forward * _ratio(self.plain_seconds_per_forward, self.speculative_seconds_per_forward)

    def rows(self) -> list[Row]:
        """One line: acceptance per offset in percent, ms per forward, speed-up, and whether plain decoding gives the same."""
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
        """`to_dict` with what is computed from it, for JSON that is read elsewhere."""
        names = ("speedup", "speedup_by_parts", "plain_seconds_per_forward", "speculative_seconds_per_forward")
        numbers = {name: _finite(getattr(self, name)) for name in names}
        computed = numbers | {"spread": [_finite(value) for value in self.spread]}
        computed["conditional_acceptance"] = [_finite(value) for value in self.acceptance.conditional.tolist()]
        return self.to_dict() | computed


@dataclass(frozen=True, kw_only=True)
class ExactMatch(Result):
    """Polynomial answers that were decoded: the share in which every coefficient is right, by number of operations."""

    operations: tuple[int, ...]
    share: NDArray[np.float64]
    """`[number of operations]`: from 0 to 1."""
    chance: NDArray[np.float64]
    """`[number of operations]`: the best answer without arithmetic."""
    count: NDArray[np.int64]
    """`[number of operations]`: expressions."""
    speculative: int
    tokens_per_forward: float
    """Over answers; of c coefficients at most c - 1 tokens come behind the prefill."""

    def rows(self) -> list[Row]:
        """One line per number of operations."""
        columns = zip(self.operations, self.share.tolist(), self.chance.tolist(), self.count.tolist(), strict=True)
        return [
            {"operations": m, "expressions": n, "exact match": share, "chance": chance}
            for m, share, chance, n in columns
        ]


@dataclass(frozen=True, kw_only=True)
class Completions(Result):
    """Continuations of held-out text, compared with what really follows, place by place."""

    windows: int
    prompt_bytes: int
    new_bytes: int
    """Per window."""
    byte_share: float
    """Share of the new bytes that are the real ones. One byte too many, and all behind it are compared with others."""
    chance: float
    """The share if every byte were the most frequent one."""
    line_share: float
    """Share of lines that came out whole: the first is what is left of the line that the prompt breaks off in."""
    lines: int
    first_line_share: float
    """The same of the first lines alone, which no earlier mistake of the model moves."""
    first_lines: int
    speculative: int
    tokens_per_forward: float

    def rows(self) -> list[Row]:
        """One line per score."""
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
