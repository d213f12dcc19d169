"""Attention scores of every attention head (playground/probes/attention_scores.py defines them)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Head, History, Result, Row, heads_of

SCORE_TITLES = {
    "previous_token": "previous token",
    "prefix_matching": "induction",
    "duplicate_token": "duplicate token",
}


def score_title(name: str) -> str:
    """Readable name of a score, for tables and figures.

    >>> [score_title(name) for name in ("prefix_matching", "ahead_2", "back_2")]
    ['induction', '2-ahead induction', '2 back']
    """
    kind, _, k = name.partition("_")
    return {"ahead": f"{k}-ahead induction", "back": f"{k} back"}.get(kind, SCORE_TITLES.get(name, name))


@dataclass(frozen=True, kw_only=True)
class AttentionScores(Result):
    """Scores of every attention head, with their null bands and the value of an ideal head.

    `null_*` is the null band of the score without the prefix, for each head: the 99th percentile of that score when the
    targets are moved. A score is NaN where the rows hold no target for it.
    """

    sort_by: ClassVar[str] = "induction"
    dims: ClassVar[dict[str, str]] = {
        "layers": "layer",
        "back": "back layer head",
        "duplicate_token": "layer head",
        "ahead": "ahead layer head",
        "null_back": "back layer head",
        "null_duplicate_token": "layer head",
        "null_ahead": "ahead layer head",
    }

    layers: tuple[str, ...]
    """Names of the layers in order: `blocks.0`, .., `future_heads.0`, .."""
    rows_from: str
    """`random repeats` (equal for every task) or `task` (rows of the task; only queries before scored tokens count, and for
    the previous-token score the positions that an ideal induction head attends to from there)."""
    back: NDArray[np.float64]
    """`[k, layer, head]`: attention to the k-th token before the current one, k = 1, 2, .."""
    duplicate_token: NDArray[np.float64]
    """`[layer, head]`: attention to earlier occurrences of the current token."""
    ahead: NDArray[np.float64]
    """`[k, layer, head]`: attention to the k-th token after earlier occurrences of the current one, k = 1, 2, .."""
    null_back: NDArray[np.float64]
    null_duplicate_token: NDArray[np.float64]
    null_ahead: NDArray[np.float64]
    ideal: float = 1.0
    """The score of a perfect head."""

    @property
    def previous_token(self) -> NDArray[np.float64]:
        """`[layer, head]`: `back` for k = 1."""
        return self.back[0]

    @property
    def null_previous_token(self) -> NDArray[np.float64]:
        return self.null_back[0]

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
        """Names that `score` and `null` accept: previous_token, prefix_matching, duplicate_token, ahead_2, .., back_2, .."""
        ahead = (f"ahead_{k}" for k in range(2, len(self.ahead) + 1))
        back = (f"back_{k}" for k in range(2, len(self.back) + 1))
        return ("previous_token", "prefix_matching", "duplicate_token", *ahead, *back)

    def score(self, name: str) -> NDArray[np.float64]:
        """`[layer, head]` values of one score, by its name. Raises ValueError for a name that is not in `names`."""
        return self._named(name, "")

    def null(self, name: str) -> NDArray[np.float64]:
        """`[layer, head]` null band of one score, by its name. Raises ValueError for a name that is not in `names`."""
        return self._named(name, "null_")

    def _named(self, name: str, prefix: str) -> NDArray[np.float64]:
        if name not in self.names:
            raise ValueError(f"there is no score '{name}'; there are: {', '.join(self.names)}")
        kind, _, k = name.partition("_")
        return getattr(self, prefix + kind)[int(k) - 1] if k.isdecimal() else getattr(self, prefix + name)

    def strongest(self, name: str, least: float = 0.0) -> tuple[Head, ...]:
        """Heads whose score is above both `least` and their null band, strongest first."""
        values, null = self.score(name).ravel(), self.null(name).ravel()
        order = np.argsort(-np.nan_to_num(values), kind="stable")
        return tuple(self.heads[index] for index in order if values[index] > least and values[index] > null[index])

    def rows(self) -> list[Row]:
        """One row per head with all its scores, then the largest null band over all heads, then the ideal head."""
        columns = {name: score_title(name) for name in self.names}
        lines = {
            str(head): {name: float(self.score(name).ravel()[i]) for name in self.names}
            for i, head in enumerate(self.heads)
        }
        lines["null band (99%), largest"] = {
            name: float(np.fmax.reduce(self.null(name), axis=None)) for name in self.names
        }
        lines["ideal head"] = dict.fromkeys(self.names, self.ideal)
        return [
            {"head": head, **{columns[name]: values[name] for name in self.names}} for head, values in lines.items()
        ]


AttentionHistory = History[AttentionScores]
"""Attention scores of one run at each step they were measured."""
