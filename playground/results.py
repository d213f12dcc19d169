"""Frozen numpy results: what probes measure, runs store and figures draw. Imports neither torch nor Streamlit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class AttentionScores:
    """Two attention scores of every attention head, with what an ideal head reaches and what chance allows.

    All arrays are `[layer, head]`. `null_*` is the 99th percentile of the same score under the control
    (playground/probes/attention_scores.py says which), head by head.
    """

    layers: tuple[str, ...]
    """Names of the layers in order: `blocks.0`, .., `future_heads.0`, .."""
    previous_token: NDArray[np.float64]
    prefix_matching: NDArray[np.float64]
    null_previous_token: NDArray[np.float64]
    null_prefix_matching: NDArray[np.float64]

    ideal: float = 1.0
    """What a perfect previous-token head, or a perfect induction head, reaches on its score."""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, ready for JSON, rounded to 5 decimals; None where nothing could be measured."""
        names = ("previous_token", "prefix_matching", "null_previous_token", "null_prefix_matching")
        arrays = {name: _plain(getattr(self, name)) for name in names}
        return {"layers": list(self.layers), **arrays, "ideal": self.ideal}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AttentionScores":
        """Read what `to_dict` wrote; other keys are left alone."""
        names = ("previous_token", "prefix_matching", "null_previous_token", "null_prefix_matching")
        arrays = {name: np.asarray(values[name], dtype=np.float64) for name in names}
        return cls(layers=tuple(values["layers"]), ideal=float(values["ideal"]), **arrays)


def _plain(values: NDArray[np.float64]) -> list[Any]:
    rounded = np.round(values, 5).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()


@dataclass(frozen=True, kw_only=True)
class AttentionHistory:
    """Attention scores of one run at each evaluated step."""

    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    scores: tuple[AttentionScores, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreInfo:
    """What a score's values mean: the figures that stand beside every value of it."""

    name: str
    chance: float
    ceiling: float
    unit: str
    higher_is_better: bool
