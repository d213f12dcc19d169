"""Results read from the weights alone: composition between heads, copying, and whole token-by-token circuits."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Head, Result, Row


@dataclass(frozen=True, kw_only=True)
class Composition(Result):
    """Q-, K- and V-composition of pairs of heads, MINUS the score of random matrices of the same sizes.

    Arrays are `[sender, receiver]`, NaN where the receiver does not come after the sender. Elhage et al. 2021, "A mathematical
    framework for transformer circuits"; playground/probes/composition.py computes the scores.
    """

    sort_by: ClassVar[str] = "K"
    dims: ClassVar[dict[str, str]] = {
        "senders": "sender",
        "receivers": "receiver",
        "q": "sender receiver",
        "k": "sender receiver",
        "v": "sender receiver",
        "random": "3",
        "null": "3",
        "null_qk": "sender receiver",
        "null_v": "sender receiver",
        "strongest_qk": "receiver",
        "strongest_v": "receiver",
    }

    senders: tuple[Head, ...]
    """Trunk heads, and those of future heads that other future heads read."""
    receivers: tuple[Head, ...]
    """All heads of the trunk and the future heads."""
    q: NDArray[np.float64]
    k: NDArray[np.float64]
    v: NDArray[np.float64]
    random: tuple[float, ...]
    """Score of random matrices of these sizes for q, k and v; it is already subtracted from the arrays."""
    null_qk: NDArray[np.float64] | None = None
    """`[sender, receiver]`: 99th percentile, minus `random`, of each pair's Q and K scores after a random rotation between its
    two heads: a score above it is more than chance. None in results stored by older versions."""
    null_v: NDArray[np.float64] | None = None
    """`[sender, receiver]`: null band of each pair's V score, computed as `null_qk` is. None in older results."""
    strongest_qk: NDArray[np.float64] | None = None
    """`[receiver]`: null band of the largest Q or K score over all senders: the strongest sender must exceed it."""
    strongest_v: NDArray[np.float64] | None = None
    null: tuple[float, ...] | None = None
    """Null bands of results stored until 2026-11-30, in place of the fields above: for q, k and v one band for all pairs, from
    random matrices of full rank. Heads of few large singular values exceed it by chance in up to 40 of 100 pairs."""

    @property
    def rotated(self) -> bool:
        """True if the null bands come from rotated pairs; False for results that store one band for all pairs."""
        return self.null_qk is not None

    def band(self, kind: str) -> NDArray[np.float64]:
        """`[sender, receiver]` null band of `kind` (`q`, `k` or `v`): 99% of scores are below it where nothing is aligned."""
        own = self.null_v if kind == "v" else self.null_qk
        if own is not None:
            return own
        before = float("nan") if self.null is None else self.null["qkv".index(kind)]
        return np.where(np.isnan(self.k), np.nan, before)

    def band_of_strongest(self, kind: str) -> NDArray[np.float64]:
        """`[receiver]` null band of the largest score of `kind` over all senders; NaN in results stored by older versions."""
        own = self.strongest_v if kind == "v" else self.strongest_qk
        return np.full(len(self.receivers), np.nan) if own is None else own

    def pair(self, kind: str, sender: Head, receiver: Head) -> float:
        """The value of one edge; `kind` is `q`, `k` or `v`."""
        return float(getattr(self, kind)[self.senders.index(sender), self.receivers.index(receiver)])

    def rows(self) -> list[Row]:
        """One row per pair of heads of which the second comes after the first."""
        pairs = [(i, j) for i in range(len(self.senders)) for j in range(len(self.receivers))]
        band, strongest = self.band("k"), self.band_of_strongest("k")
        return [
            {
                "sender": str(self.senders[i]),
                "receiver": str(self.receivers[j]),
                "Q": float(self.q[i, j]),
                "K": float(self.k[i, j]),
                "V": float(self.v[i, j]),
                "K null 99%": float(band[i, j]),
                "of strongest sender": float(strongest[j]),
            }
            for i, j in pairs
            if np.isfinite(self.k[i, j])
        ]


@dataclass(frozen=True, kw_only=True)
class Copying(Result):
    """Copying scores of each head's OV circuit: whether it raises the logit of the token it attends to, along named paths.

    `direct` is head -> final norm -> unembedding: the head's output skips all later layers through the residual stream.
    `through` is trunk head -> OV of one attention head of a future head -> unembedding.
    """

    sort_by: ClassVar[str] = "eigenvalue copying"
    dims: ClassVar[dict[str, str]] = {
        "heads": "head",
        "direct_eigenvalues": "head",
        "direct_top1": "head",
        "via": "via",
        "through_eigenvalues": "head via",
        "through_top1": "head via",
        "direct_eigenvalues_null": "head",
        "direct_top1_null": "head",
        "through_eigenvalues_null": "head via",
        "through_top1_null": "head via",
    }

    heads: tuple[Head, ...]
    direct_eigenvalues: NDArray[np.float64]
    """`[head]`: sum of Re(lambda) / sum of |lambda| of W_E W_V W_O W_U, in [-1, 1]; 1 is pure copying."""
    direct_top1: NDArray[np.float64]
    """`[head]`: share of tokens for which the largest entry in their row of the circuit is their own."""
    via: tuple[Head, ...]
    """Attention heads of the future heads, the second steps of the `through` paths. With replicated unembeddings a path ends at
    the unembedding of its last future head's offset, or of offset 1 if it has no future head."""
    through_eigenvalues: NDArray[np.float64]
    """`[head, via]`, the eigenvalue score of the path; NaN where `head` is itself in a future head."""
    through_top1: NDArray[np.float64]
    """`[head, via]`, the top-1 score of the path; NaN where `head` is itself in a future head."""
    chance_top1: float
    """1 / d_vocab."""
    direct_eigenvalues_null: NDArray[np.float64] | None = None
    """`[head]`: 99th percentile of the eigenvalue score with the tokens of the unembedding permuted: a head above it copies
    more than chance. Like all null bands here None in results stored before 2026-11-30."""
    direct_top1_null: NDArray[np.float64] | None = None
    through_eigenvalues_null: NDArray[np.float64] | None = None
    """`[head, via]`"""
    through_top1_null: NDArray[np.float64] | None = None

    def rows(self) -> list[Row]:
        """One row per path."""
        direct = [{"path": f"{head} -> unembed"} | self._scores("direct", (i,)) for i, head in enumerate(self.heads)]
        return direct + [
            {"path": f"{head} -> {via} -> unembed"} | self._scores("through", (i, j))
            for i, head in enumerate(self.heads)
            for j, via in enumerate(self.via)
            if np.isfinite(self.through_top1[i, j])
        ]

    def _scores(self, kind: str, place: tuple[int, ...]) -> Row:
        def value(name: str) -> float:
            found = getattr(self, f"{kind}_{name}")
            return float("nan") if found is None else float(found[place])

        return {
            "eigenvalue copying": value("eigenvalues"),
            "eigenvalue null 99%": value("eigenvalues_null"),
            "top-1 copying": value("top1"),
            "top-1 null 99%": value("top1_null"),
            "chance of top-1": self.chance_top1,
        }


@dataclass(frozen=True, kw_only=True)
class TokenCircuit(Result):
    """A whole circuit, token by token: the output (OV) or the key (QK) that each token raises."""

    dims: ClassVar[dict[str, str]] = {"matrix": "source output"}

    name: str
    """The path, such as `embed -> blocks.0.1 OV -> future_heads.0.2 OV -> unembed`."""
    matrix: NDArray[np.float64]
    """`[source token, output token]` for OV, `[query token, key token]` for QK."""
    top1: float
    """Share of rows whose largest entry is on the diagonal."""
    eigenvalues: float
    """Sum of Re(lambda) / sum of |lambda| of the matrix, in [-1, 1]."""

    def rows(self) -> list[Row]:
        """One row."""
        chance = 1 / len(self.matrix)
        return [
            {"path": self.name, "eigenvalues": self.eigenvalues, "top-1 on the diagonal": self.top1, "chance": chance}
        ]
