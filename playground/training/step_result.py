"""What an optimizer step computed: named losses and the norm of the gradient.

Dimension letters: S step, L loss (its index in `names`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def loss_names(n_future: int) -> tuple[str, ...]:
    """Names of the n-token loss's parts, one for each offset, as they are stored in metrics.jsonl.

    >>> loss_names(2)
    ('loss_1', 'loss_2')
    """
    return tuple(f"loss_{offset}" for offset in range(1, n_future + 1))


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Of one step of one replica, or, with leading dimensions, of several steps or replicas.

    The tensors are on the model's device. Copying one to the host waits until the step has run.
    """

    names: tuple[str, ...]
    """Names of the losses: `loss_k` for offset k."""
    losses: Float[Tensor, "*of loss"]
    """Mean cross-entropies in nats per target, without weights."""
    grad_norm: Float[Tensor, "*of"]
    """Norm of the gradient before clipping: of what `clip_by` names."""

    def unbind(self) -> list["StepResult"]:
        """The results along the first dimension, one each."""
        pairs = zip(self.losses.unbind(), self.grad_norm.unbind(), strict=True)
        return [StepResult(names=self.names, losses=losses, grad_norm=norm) for losses, norm in pairs]

    def clone(self) -> "StepResult":
        """A copy that a replay of the CUDA graph which wrote this result does not overwrite."""
        return StepResult(names=self.names, losses=self.losses.clone(), grad_norm=self.grad_norm.clone())

    def to_host(self) -> "StepResult":
        """In double precision on the CPU; waits for the device."""
        return StepResult(names=self.names, losses=self.losses.double().cpu(), grad_norm=self.grad_norm.double().cpu())

    def first_not_finite(self) -> tuple[int, str, float] | None:
        """Step, name and value of the first loss `[step, loss]` that is not finite; without one, of the first such gradient.

        The name is `loss of offset k` or `gradient`.
        """
        for values_SL, called in (
            (self.losses, [f"loss of offset {name.removeprefix('loss_')}" for name in self.names]),
            (self.grad_norm[:, None], ["gradient"]),
        ):
            broken = (~values_SL.isfinite()).nonzero()
            if len(broken):
                step, column = broken[0].tolist()
                return step, called[column], values_SL[step, column].item()
        return None


def stacked(results: Sequence[StepResult]) -> StepResult:
    """Results of one replica at several steps as one, with a leading dimension `step`. Raises ValueError for none."""
    if not results:
        raise ValueError("there is no step to stack; write at least one result")
    return StepResult(
        names=results[0].names,
        losses=torch.stack([one.losses for one in results]),
        grad_norm=torch.stack([one.grad_norm for one in results]),
    )


def to_rows(results: Sequence[StepResult], names: Sequence[str]) -> Float[Tensor, "step loss_and_norm"]:
    """For a checkpoint: a row for each step, its losses in the order of `names`, then the norm of the gradient."""
    if not results:
        return torch.zeros(0, len(names) + 1)
    joined = stacked(results)
    return torch.cat([joined.losses, joined.grad_norm[:, None]], dim=1).cpu()


def from_rows(rows: Float[Tensor, "step loss_and_norm"], names: tuple[str, ...]) -> list[StepResult]:
    """The reverse of `to_rows`. Raises ValueError for rows of another number of losses."""
    if rows.ndim != 2 or rows.shape[1] != len(names) + 1:
        raise ValueError(f"rows of losses have the shape {tuple(rows.shape)}, not (steps, {len(names) + 1})")
    return StepResult(names=names, losses=rows[:, :-1], grad_norm=rows[:, -1]).unbind()
