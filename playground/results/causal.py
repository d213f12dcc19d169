"""Effects of ablations on a model's output (playground/probes/ablation.py)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Head, Result, Row, measured_mean, measured_spread

AblationMethod = Literal["mean", "zero", "resample"]
CLEAR = 0.3
"""Least attention score of a head that is named after it: an induction head, a previous-token head."""


@dataclass(frozen=True, kw_only=True)
class AblationEffects(Result):
    """Loss and accuracy per offset without each component, batch by batch, together with those of the whole model.

    Batches without a scored token have accuracy NaN and are ignored in means and standard deviations.
    """

    sort_by: ClassVar[str] = "accuracy change"
    dims: ClassVar[dict[str, str]] = {
        "components": "component",
        "clean_loss": "batch offset",
        "clean_accuracy": "batch offset",
        "loss": "component batch offset",
        "accuracy": "component batch offset",
    }

    components: tuple[str, ...]
    """The ablated components: `blocks.1.2` a head, `blocks.1.attn` a layer's attention, `blocks.1.mlp`; ` + ` joins a set."""
    method: str
    """`mean`, `zero` or `resample`."""
    patterns: str
    """`free`: later heads recompute their patterns (the total effect); `frozen`: they keep the patterns of the whole model
    (the effect that is not mediated by patterns)."""
    clean_loss: NDArray[np.float64]
    """`[batch, offset]`, nats per token, over all targets."""
    clean_accuracy: NDArray[np.float64]
    """`[batch, offset]`, over the task's scored tokens, teacher-forced; NaN where none is scored."""
    loss: NDArray[np.float64]
    """`[component, batch, offset]`, nats per token, over all targets."""
    accuracy: NDArray[np.float64]
    """`[component, batch, offset]`, over the task's scored tokens, teacher-forced; NaN where none is scored."""

    @property
    def loss_change(self) -> NDArray[np.float64]:
        """`[component, offset]`: rise of the loss in nats per token, mean over batches."""
        return measured_mean(self.loss - self.clean_loss, axis=1)

    @property
    def accuracy_change(self) -> NDArray[np.float64]:
        """`[component, offset]`: change of the accuracy (negative: it falls), mean over batches."""
        return measured_mean(self.accuracy - self.clean_accuracy, axis=1)

    @property
    def loss_spread(self) -> NDArray[np.float64]:
        """`[component, offset]`: standard deviation over batches of the rise in loss; 0 with a single batch."""
        return measured_spread(self.loss - self.clean_loss, axis=1)

    @property
    def accuracy_spread(self) -> NDArray[np.float64]:
        """`[component, offset]`: standard deviation over batches of the rise in accuracy; 0 with a single batch."""
        return measured_spread(self.accuracy - self.clean_accuracy, axis=1)

    def rows(self) -> list[Row]:
        """One row per component and offset."""
        loss, accuracy = (measured_mean(values, axis=0) for values in (self.clean_loss, self.clean_accuracy))
        loss_change, accuracy_change = self.loss_change, self.accuracy_change
        loss_spread, accuracy_spread = self.loss_spread, self.accuracy_spread
        return [
            {
                "ablated": component,
                "method": self.method,
                "patterns": self.patterns,
                "offset": k + 1,
                "loss": float(loss[k]),
                "loss change": float(loss_change[i, k]),
                "loss spread": float(loss_spread[i, k]),
                "accuracy": float(accuracy[k]),
                "accuracy change": float(accuracy_change[i, k]),
                "accuracy spread": float(accuracy_spread[i, k]),
            }
            for i, component in enumerate(self.components)
            for k in range(self.clean_loss.shape[1])
        ]


@dataclass(frozen=True, kw_only=True)
class InductionAfterAblation(Result):
    """Prefix matching of every head while one earlier head is ablated: a causal test of composition."""

    sort_by: ClassVar[str] = "change"
    dims: ClassVar[dict[str, str]] = {
        "ablated": "ablated",
        "heads": "head",
        "before": "head",
        "after": "ablated head",
        "null": "head",
    }

    ablated: tuple[Head, ...]
    heads: tuple[Head, ...]
    before: NDArray[np.float64]
    """`[head]`: prefix matching of the whole model."""
    after: NDArray[np.float64]
    """`[ablated, head]`: prefix matching while that head is ablated."""
    null: NDArray[np.float64]
    """`[head]`: 99th percentile of the score under permuted tokens."""
    paths: tuple[tuple[int, ...], ...] = ()
    """For each offset the indices of the future heads on its path; empty where all read the trunk output directly."""

    def rows(self) -> list[Row]:
        """One row per ablated head and head that can read it."""
        return [
            {
                "ablated": str(ablated),
                "head": str(head),
                "prefix matching": float(self.before[j]),
                "after": float(self.after[i, j]),
                "change": float(self.after[i, j] - self.before[j]),
                "null 99%": float(self.null[j]),
            }
            for i, ablated in enumerate(self.ablated)
            for j, head in enumerate(self.heads)
            if head.comes_after(ablated, self.paths)
        ]


@dataclass(frozen=True, kw_only=True)
class Knockout(Result):
    """Accuracy without the induction heads, and, as a control, without as many random other heads.

    Only heads that offset 1 depends on are named here: those of the trunk and of the future heads on its path (its own future
    head alone, unless future heads read one another). Other heads cannot change its accuracy.
    """

    dims: ClassVar[dict[str, str]] = {"without_others": "draw"}

    induction: tuple[Head, ...]
    """Heads with a clear induction score on the task's rows, strongest first."""
    previous_token: tuple[Head, ...]
    """Heads with a clear previous-token score, strongest first."""
    others: tuple[Head, ...]
    """The heads that are neither; the controls are drawn from them."""
    accuracy: float
    """Accuracy of the whole model on the task's scored tokens, offset 1, teacher-forced."""
    without_induction: float
    """Accuracy with all induction heads mean-ablated together."""
    without_induction_spread: float
    """Standard deviation over batches of `without_induction`."""
    without_previous: float
    """Accuracy with all previous-token heads mean-ablated together."""
    without_others: NDArray[np.float64]
    """`[draw]`: accuracy without as many random other heads as there are induction heads (all others where there are fewer).
    No two draws are equal sets."""
    n_control: int
    """Number of other heads that each draw ablates."""

    @property
    def drop(self) -> float:
        """Accuracy lost by ablating the induction heads."""
        return self.accuracy - self.without_induction

    @property
    def control_drop(self) -> float:
        """Accuracy lost by ablating random other heads, mean over draws."""
        return float((self.accuracy - self.without_others).mean()) if len(self.without_others) else float("nan")

    def rows(self) -> list[Row]:
        """One row per group of heads."""

        def names(heads: tuple[Head, ...]) -> str:
            return " ".join(map(str, heads)) or "none"

        drops = self.accuracy - self.without_others
        worst = float(drops.max()) if len(drops) else float("nan")
        return [
            {
                "ablated": "induction heads",
                "heads": names(self.induction),
                "accuracy": self.without_induction,
                "drop": self.drop,
                "worst draw": None,
            },
            {
                "ablated": "previous-token heads",
                "heads": names(self.previous_token),
                "accuracy": self.without_previous,
                "drop": self.accuracy - self.without_previous,
                "worst draw": None,
            },
            {
                "ablated": f"{self.n_control} random other heads",
                "heads": f"of {names(self.others)}",
                "accuracy": self.accuracy - self.control_drop,
                "drop": self.control_drop,
                "worst draw": worst,
            },
        ]
