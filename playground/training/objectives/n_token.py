"""The n-token loss: the sum over offsets of the mean cross-entropy, each offset with a weight (by default 1).

Source: Gloeckle et al. 2024, "Better & Faster Large Language Models via Multi-token Prediction", arXiv 2404.19737, section 2.
Two functions compute loss and gradient; the tests prove them equal:

- `NToken.one_graph` builds the sum as one autograd graph. It is the plain definition, but the activations of all n future heads
  are in memory at the same time, and so are their logits unless these are computed in chunks.
- `per_head_loss` runs forward and backward through one future head after another (head_by_head.py).

Dimension letters: R replica, B batch, T position, K offset, N position of all rows, D d_model, V d_vocab.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.training.cross_entropy import linear_cross_entropy
from playground.training.objectives.base import Loss, Losses, Objective, Weights
from playground.training.objectives.head_by_head import head_by_head
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets


@dataclass(frozen=True)
class NToken(Objective):
    """The n-token loss."""

    name: ClassVar[str] = "n_token"
    summary: ClassVar[str] = "The sum over offsets of the mean cross-entropy; with n = 1 ordinary next-token training."
    source: ClassVar[str] = "Gloeckle et al. 2024, arXiv 2404.19737, section 2"

    def losses(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None
    ) -> Float[Tensor, "replica loss"]:
        """Mean cross-entropy of each offset in nats per target."""
        return n_token_losses(model, batch, counts)

    def head_by_head(self) -> Loss | None:
        return per_head_loss


def offset_loss(
    model: MTPTransformer,
    resid: Float[Tensor, "batch pos d_model"],
    batch: Batch,
    offset: int,
    counts: Tensor | None = None,
    *,
    unit: bool = False,
) -> Float[Tensor, " replica"]:
    """Mean cross-entropy (nats per target) of one offset, from the residual stream after its future head; 0 without targets.

    `counts` `[replica, offset]` replaces the number of targets in `batch` as the denominator. `unit=True` is a promise of the
    caller to differentiate the unweighted sum of the result, which saves scaling the gradients (see cross_entropy.py).
    """
    weight = model.unembed_of(offset).weight
    weight_RVD = weight if weight.ndim == 3 else weight[None]
    replicas = len(weight_RVD)
    targets_RN = future_targets(batch, offset).view(replicas, -1)
    stream_RND = model.ln_final(resid).view(replicas, -1, resid.shape[-1])
    count_R = (targets_RN != IGNORED).sum(dim=1) if counts is None else counts[:, offset - 1]
    share_R = count_R.clamp(min=1).to(torch.promote_types(stream_RND.dtype, torch.float32)).reciprocal()
    return linear_cross_entropy(stream_RND, weight_RVD, targets_RN, share_R, unit=unit)


def n_token_losses(
    model: MTPTransformer, batch: Batch, counts: Tensor | None = None
) -> Float[Tensor, "replica offset"]:
    """Mean cross-entropy of each offset (nats per target), in one autograd graph; the unweighted n-token loss is their sum."""
    resids = model.future_resids(model.trunk(batch.tokens), batch.tokens)
    losses = [offset_loss(model, resid, batch, offset, counts) for offset, resid in enumerate(resids, start=1)]
    return torch.stack(losses, dim=1)


def per_head_loss(model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()) -> Losses:
    """The n-token loss, one offset after another; gradients above the trunk are computed during the forward pass."""

    def part(resid: Tensor, offset: int) -> Tensor:
        return offset_loss(model, resid, batch, offset, counts, unit=True)

    return head_by_head(model, batch, part, weights)


OBJECTIVE = NToken
