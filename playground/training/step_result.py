"""What an optimizer step computed: named losses and the norm of the gradient.

Dimension letters: S step, L loss (its index in `names`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def loss_names(n_future: int) -> tuple[str, ...]:
    """Names of the losses of offsets 1 .. n_future, as they are stored in metrics.jsonl.

    >>> loss_names(2)
    ('loss_1', 'loss_2')
    """
    return tuple(f"loss_{offset}" for offset in range(1, n_future + 1))


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Losses and gradient norm of one step of one replica; with leading dimensions, of several steps or replicas.

    The tensors are on the model's device. Copying one to the host waits until the step has run.
    """

    names: tuple[str, ...]
    """Names of the losses: `loss_k` for offset k, others as the objective names them."""
    losses: Float[Tensor, "*of loss"]
    """Each loss without its weight; `loss_k` is a mean cross-entropy in nats per target."""
    grad_norm: Float[Tensor, "*of"]
    """Norm before clipping: of the whole gradient, or of offset 1's part, as the setting `clip_by` says."""

    def unbind(self) -> list["StepResult"]:
        """One result for each index of the first dimension (replica or step)."""
        pairs = zip(self.losses.unbind(), self.grad_norm.unbind(), strict=True)
        return [StepResult(names=self.names, losses=losses, grad_norm=norm) for losses, norm in pairs]

    def clone(self) -> "StepResult":
        """A copy that a replay of the CUDA graph which wrote this result does not overwrite."""
        return StepResult(names=self.names, losses=self.losses.clone(), grad_norm=self.grad_norm.clone())

    def to_host(self) -> "StepResult":
        """A copy on the CPU in double precision; waits for the device."""
        return StepResult(names=self.names, losses=self.losses.double().cpu(), grad_norm=self.grad_norm.double().cpu())

    def first_not_finite(self) -> tuple[int, str, float] | None:
        """Step, name and value of the first loss that is not finite, or else of the first such gradient norm; or None.

        For results with one leading dimension, `step`. The name is `loss of offset k`, `loss_NAME` for another loss, or
        `gradient`.
        """
        for values_SL, called in (
            (self.losses, [_called(name) for name in self.names]),
            (self.grad_norm[:, None], ["gradient"]),
        ):
            broken = (~values_SL.isfinite()).nonzero()
            if len(broken):
                step, column = broken[0].tolist()
                return step, called[column], values_SL[step, column].item()
        return None


def _called(name: str) -> str:
    rest = name.removeprefix("loss_")
    return f"loss of offset {rest}" if rest.isdigit() else name


def stacked(results: Sequence[StepResult]) -> StepResult:
    """Join results of one replica at several steps along a new first dimension `step`. Raises ValueError for an empty list."""
    if not results:
        raise ValueError("there is no step to stack; write at least one result")
    return StepResult(
        names=results[0].names,
        losses=torch.stack([one.losses for one in results]),
        grad_norm=torch.stack([one.grad_norm for one in results]),
    )


def to_rows(results: Sequence[StepResult], names: Sequence[str]) -> Float[Tensor, "step loss_and_norm"]:
    """Rows for a checkpoint, one for each step: its losses, one for each of `names`, then the norm of the gradient."""
    if not results:
        return torch.zeros(0, len(names) + 1)
    joined = stacked(results)
    return torch.cat([joined.losses, joined.grad_norm[:, None]], dim=1).cpu()


def from_rows(rows: Float[Tensor, "step loss_and_norm"], names: tuple[str, ...]) -> list[StepResult]:
    """Results of the steps whose rows `to_rows` made. Raises ValueError for a number of columns other than len(names) + 1."""
    if rows.shape[1] != len(names) + 1:
        raise ValueError(f"rows of losses have the shape {tuple(rows.shape)}, not (steps, {len(names) + 1})")
    return StepResult(names=names, losses=rows[:, :-1], grad_norm=rows[:, -1]).unbind()
