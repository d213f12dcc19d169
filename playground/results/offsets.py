"""Results specific to predicting several tokens ahead: every offset read from every layer, and offsets compared."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row


@dataclass(frozen=True, kw_only=True)
class Lens(Result):
    """Loss and accuracy when the residual stream after each layer is read early (logit lens, nostalgebraist 2020)."""

    dims: ClassVar[dict[str, str]] = {
        "sites": "site",
        "loss": "site offset",
        "accuracy": "site offset",
        "direct_loss": "site offset",
        "direct_accuracy": "site offset",
    }

    sites: tuple[str, ...]
    """`embed`, then the trunk layers `blocks.0`, ..; the last one is the trunk output z."""
    loss: NDArray[np.float64]
    """`[site, offset]`, nats per target: the residual stream goes through future head k, final norm and unembedding."""
    accuracy: NDArray[np.float64]
    """`[site, offset]`, over the scored tokens."""
    direct_loss: NDArray[np.float64]
    """`[site, offset]`: straight through final norm and unembedding, without a future head (the ordinary logit lens)."""
    direct_accuracy: NDArray[np.float64]
    """`[site, offset]`, over the scored tokens, read without a future head."""

    def rows(self) -> list[Row]:
        """One row per site and offset."""
        return [
            {
                "site": site,
                "offset": k + 1,
                "loss": float(self.loss[i, k]),
                "accuracy": float(self.accuracy[i, k]),
                "direct loss": float(self.direct_loss[i, k]),
                "direct accuracy": float(self.direct_accuracy[i, k]),
            }
            for i, site in enumerate(self.sites)
            for k in range(self.loss.shape[1])
        ]


@dataclass(frozen=True, kw_only=True)
class LensView(Result):
    """Predictions of every layer at every position of one row."""

    dims: ClassVar[dict[str, str]] = {
        "sites": "site",
        "tokens": "position",
        "through": "site offset position rank",
        "probability": "site offset position rank",
        "direct": "site position rank",
        "direct_probability": "site position rank",
    }

    sites: tuple[str, ...]
    tokens: tuple[int, ...]
    through: NDArray[np.int64]
    """`[site, offset, position, rank]`: the likeliest tokens through future head k, likeliest first."""
    probability: NDArray[np.float64]
    """`[site, offset, position, rank]`: probabilities of the tokens in `through`."""
    direct: NDArray[np.int64]
    """`[site, position, rank]`: the likeliest tokens by final norm and unembedding alone, without a future head."""
    direct_probability: NDArray[np.float64]

    def rows(self) -> list[Row]:
        """One row per site, offset and position."""
        n_sites, n_offsets, length, _ = self.through.shape
        return [
            {
                "site": self.sites[i],
                "offset": k + 1,
                "position": t,
                "token": self.tokens[t],
                "predicts": int(self.through[i, k, t, 0]),
                "probability": float(self.probability[i, k, t, 0]),
            }
            for i in range(n_sites)
            for k in range(n_offsets)
            for t in range(length)
        ]


@dataclass(frozen=True, kw_only=True)
class LinearProbes(Result):
    """Accuracy of linear read-outs from each layer, on held-out rows, with the baselines that need no model."""

    dims: ClassVar[dict[str, str]] = {
        "sites": "site",
        "targets": "target",
        "accuracy": "site target",
        "shuffled": "site target",
        "baseline": "target",
        "counted": "target",
    }

    sites: tuple[str, ...]
    targets: tuple[str, ...]
    """Names of the labels: `token +1`, `token +2`, .. or the task's own, such as `value of operand 1`."""
    accuracy: NDArray[np.float64]
    """`[site, target]`, from 0 to 1."""
    shuffled: NDArray[np.float64]
    """`[site, target]`: accuracy of a probe of the same kind trained on shuffled labels."""
    baseline: NDArray[np.float64]
    """`[target]`: the best n-gram model of the current tokens up to trigrams; its order 0 is the most frequent label."""
    counted: NDArray[np.int64] | None = None
    """`[target]`: number of positions that the n-gram is counted on. None in results stored before 2026-11-30, when it was
    counted on the few thousand positions that probes are trained on and the baseline was too low."""

    @property
    def note(self) -> str:
        """Number of positions that the n-gram is counted on."""
        if self.counted is None:
            return "the n-gram was counted on the few rows that probes are trained on, and is too low"
        if not len(self.counted):
            return ""
        least, most = (f"{count:,}" for count in (self.counted.min(), self.counted.max()))
        return f"n-gram counted on {least if least == most else f'{least} to {most}'} positions"

    def rows(self) -> list[Row]:
        """One row per site and target."""
        return [
            {
                "site": site,
                "target": target,
                "accuracy": float(self.accuracy[i, j]),
                "n-gram": float(self.baseline[j]),
                "above n-gram": float(self.accuracy[i, j] - self.baseline[j]),
                "counted on": None if self.counted is None else int(self.counted[j]),
                "shuffled labels": float(self.shuffled[i, j]),
            }
            for i, site in enumerate(self.sites)
            for j, target in enumerate(self.targets)
        ]


@dataclass(frozen=True, kw_only=True)
class GradientShares(Result):
    """Gradients of the offsets' losses at the trunk output z: sizes and alignment (playground/probes/gradients.py)."""

    dims: ClassVar[dict[str, str]] = {"share": "offset", "cosine": "offset offset", "loss": "offset"}

    share: NDArray[np.float64]
    """`[offset]`: norm of the offset's gradient at z over the norm of the sum of all offsets' gradients."""
    cosine: NDArray[np.float64]
    """`[offset, offset]`: cosine between the gradients of two offsets."""
    loss: NDArray[np.float64]
    """`[offset]`, nats per target."""

    def rows(self) -> list[Row]:
        """One row per offset."""
        return [
            {"offset": k + 1, "loss": float(self.loss[k]), "share of the gradient": float(self.share[k])}
            | {f"cosine with {j + 1}": float(self.cosine[k, j]) for j in range(len(self.share))}
            for k in range(len(self.share))
        ]


@dataclass(frozen=True, kw_only=True)
class OffsetAgreement(Result):
    """How often offset k at position t and offset 1 at position t + k - 1, which predict one token, have the same argmax."""

    dims: ClassVar[dict[str, str]] = {"agreement": "offset", "chance": "offset", "count": "offset"}

    agreement: NDArray[np.float64]
    """`[offset]`, from 0 to 1; 1 for offset 1."""
    chance: NDArray[np.float64]
    """`[offset]`: agreement expected of independent predictions with the same token frequencies."""
    count: NDArray[np.int64]
    """`[offset]`: number of compared pairs."""

    def rows(self) -> list[Row]:
        """One row per offset."""
        return [
            {
                "offset": k + 1,
                "agreement": float(self.agreement[k]),
                "chance": float(self.chance[k]),
                "count": int(self.count[k]),
            }
            for k in range(len(self.agreement))
        ]
