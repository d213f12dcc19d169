"""What a model does, in the figures that stand beside what its heads do."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Result, Row


@dataclass(frozen=True, kw_only=True)
class ScoreInfo:
    """What a score's values mean: the figures that stand beside every value of it."""

    name: str
    chance: float
    ceiling: float
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Behaviour(Result):
    """Teacher-forced loss and accuracy on fixed rows of the task, one figure an offset k = 1..n_future."""

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
    """First and last position of the early stretch."""
    late: tuple[int, ...]
    """First and last position of the late stretch."""
    in_context: NDArray[np.float64]
    """`[offset]`: loss at the late minus loss at the early positions; negative when context helps (Olsson et al. 2022)."""

    def rows(self) -> list[Row]:
        """A line for each offset."""
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
