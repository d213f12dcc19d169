"""Behaviour of a model: loss, accuracy and in-context learning score per offset, shown next to the attention scores."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row


@dataclass(frozen=True, kw_only=True)
class ScoreInfo:
    """Meaning of a score's values: the reference values shown next to every value of the score."""

    name: str
    chance: float
    ceiling: float
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Behaviour(Result):
    """Teacher-forced loss and accuracy on fixed rows of the task, one value per offset k = 1..n_future."""

    dims: ClassVar[dict[str, str]] = {
        "loss": "offset",
        "score_loss": "offset",
        "accuracy": "offset",
        "early": "2",
        "late": "2",
        "in_context": "offset",
    }

    loss: NDArray[np.float64]
    """`[offset]`, nats per token, over all targets."""
    score_loss: NDArray[np.float64]
    """`[offset]`, nats per token, over the scored tokens."""
    accuracy: NDArray[np.float64]
    """`[offset]`, over the scored tokens; NaN where none is scored at that offset."""
    early: tuple[int, ...]
    """First and last position of the early part of a row."""
    late: tuple[int, ...]
    """First and last position of the late part of a row."""
    in_context: NDArray[np.float64]
    """`[offset]`: loss at the late minus loss at the early positions; negative when context helps (Olsson et al. 2022)."""

    def rows(self) -> list[Row]:
        """One row per offset."""
        return [
            {
                "offset": k + 1,
                "loss": float(self.loss[k]),
                "scored loss": float(self.score_loss[k]),
                "scored accuracy": float(self.accuracy[k]),
                "late - early loss": float(self.in_context[k]),
            }
            for k in range(len(self.loss))
        ]
