"""Attention scores of every attention head (playground/probes/attention_scores.py defines them)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Head, Result, Row, heads_of


@dataclass(frozen=True, kw_only=True)
class AttentionScores(Result):
    """Scores of every attention head, with what an ideal head reaches and what chance allows.

    `null_*` is the 99th percentile of the same score under the control, head by head.
    """

    layers: tuple[str, ...]
    """Names of the layers in order: `blocks.0`, .., `future_heads.0`, .."""
    rows_from: str
    """`random repeats` (the same for every task) or `task` (rows of the task; only queries before scored tokens count, and for
    the previous-token score the positions that an ideal induction head attends to from there)."""
    previous_token: NDArray[np.float64]
    """`[layer, head]`"""
    duplicate_token: NDArray[np.float64]
    """`[layer, head]`"""
    ahead: NDArray[np.float64]
    """`[k, layer, head]`: attention to the k-th token after earlier occurrences of the current one, k = 1, 2, .."""
    null_previous_token: NDArray[np.float64]
    null_duplicate_token: NDArray[np.float64]
    null_ahead: NDArray[np.float64]
    ideal: float = 1.0
    """What a perfect head reaches on its score."""

    @property
    def prefix_matching(self) -> NDArray[np.float64]:
        """`[layer, head]`: the induction score, which is `ahead` for k = 1."""
        return self.ahead[0]

    @property
    def null_prefix_matching(self) -> NDArray[np.float64]:
        return self.null_ahead[0]

    @property
    def heads(self) -> tuple[Head, ...]:
        """All heads, in the order of the flattened `[layer, head]` arrays."""
        return heads_of(self.layers, self.previous_token.shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """What `score` and `null` take: previous_token, prefix_matching, duplicate_token, ahead_2, ahead_3, .."""
        further = (f"ahead_{k}" for k in range(2, len(self.ahead) + 1))
        return ("previous_token", "prefix_matching", "duplicate_token", *further)

    def score(self, name: str) -> NDArray[np.float64]:
        """`[layer, head]` values of one score, by its name."""
        return self.ahead[int(name[6:]) - 1] if name.startswith("ahead_") else getattr(self, name)

    def null(self, name: str) -> NDArray[np.float64]:
        """`[layer, head]` null band of one score."""
        return self.null_ahead[int(name[6:]) - 1] if name.startswith("ahead_") else getattr(self, f"null_{name}")

    def strongest(self, name: str, least: float = 0.0) -> tuple[Head, ...]:
        """Heads whose score is above both `least` and their null band, strongest first."""
        values, null = self.score(name).ravel(), self.null(name).ravel()
        order = np.argsort(-np.nan_to_num(values), kind="stable")
        return tuple(self.heads[index] for index in order if values[index] > max(least, null[index]))

    def rows(self) -> list[Row]:
        """A line for each head and score."""
        return [
            {"head": str(head), "score": name, "value": float(value), "null 99%": float(null), "ideal": self.ideal}
            for name in self.names
            for head, value, null in zip(self.heads, self.score(name).ravel(), self.null(name).ravel(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class AttentionHistory:
    """Attention scores of one run at each step they were measured."""

    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    scores: tuple[AttentionScores, ...]
