"""The n-token loss (Gloeckle et al. 2024, section 2): the unweighted sum over offsets of the mean cross-entropy.

Two ways to its gradient, proved equal by the tests:

- `one_graph_backward` builds the whole sum and differentiates it: plain, but the logits of all n heads are in memory.
- `per_head_backward` goes forward through the trunk once, then head by head forward AND backward, the gradient adding up
  at the trunk output z, and then once backward through the trunk: the logits of one head are in memory at a time. Future
  heads that read one another run once, as a part of the trunk; then the logits alone go head by head.

Parameters that require no gradient stay out of both. Where none of the trunk and of an offset's path does, as on a base
(playground/training/base.py), that offset's loss is computed and not differentiated, and nothing goes backward through
the trunk.

Dimension letters: B batch, T position, K offset, D d_model, V d_vocab.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets

Backward = Callable[[MTPTransformer, Batch], Tensor]
"""Adds the gradients of the n-token loss to the parameters and returns the losses `[offset]`, detached."""


def offset_loss(model: MTPTransformer, resid: Float[Tensor, "batch pos d_model"], batch: Batch, offset: int) -> Tensor:
    """Mean cross-entropy (nats per target) of one offset, given the stream behind its head; zero where nothing is a target."""
    targets_BT = future_targets(batch, offset)
    logits_BTV = model.logits(resid, offset)
    total = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets_BT != IGNORED).sum().clamp(min=1)


def n_token_losses(model: MTPTransformer, batch: Batch) -> Float[Tensor, " offset"]:
    """The losses of all offsets in one graph; the n-token loss is their sum."""
    resids = model.future_resids(model.trunk(batch.tokens), batch.tokens)
    return torch.stack([offset_loss(model, resid, batch, offset) for offset, resid in enumerate(resids, start=1)])


def one_graph_backward(model: MTPTransformer, batch: Batch) -> Float[Tensor, " offset"]:
    """Gradients by differentiating the whole sum at once."""
    losses = n_token_losses(model, batch)
    losses.sum().backward()
    return losses.detach()


def per_head_backward(model: MTPTransformer, batch: Batch) -> Float[Tensor, " offset"]:
    """Gradients head by head; each head's logits are freed before the next head's are computed.

    Which of the two forms it is, the types of future heads decide: do they all read z, or one another?
    """
    z = model.trunk(batch.tokens)
    if all(len(path) == 1 for path in model.config.paths):
        return _from_z(model, z, batch)
    return _from_streams(model, model.future_resids(z, batch.tokens), batch)


def _from_z(model: MTPTransformer, z: Tensor, batch: Batch) -> Tensor:
    """Every future head forward and backward on its own, from a detached z; then z backward with what has added up."""
    z_leaf = z.detach().requires_grad_(z.requires_grad)
    losses: list[Tensor] = []
    for offset in range(1, model.n_future + 1):
        loss = offset_loss(model, model.future_resid(z_leaf, offset, batch.tokens), batch, offset)
        if loss.requires_grad:
            loss.backward()
        losses.append(loss.detach())
    if z.requires_grad:
        z.backward(z_leaf.grad)
    return torch.stack(losses)


def _from_streams(model: MTPTransformer, resids: list[Tensor], batch: Batch) -> Tensor:
    """The logits of every future head forward and backward on their own, from detached streams; then all streams together."""
    leaves = [resid.detach().requires_grad_(resid.requires_grad) for resid in resids]
    losses: list[Tensor] = []
    for offset, leaf in enumerate(leaves, start=1):
        loss = offset_loss(model, leaf, batch, offset)
        if loss.requires_grad:
            loss.backward()
        losses.append(loss.detach())
    learning = [index for index, resid in enumerate(resids) if resid.requires_grad]
    torch.autograd.backward([resids[index] for index in learning], [leaves[index].grad for index in learning])
    return torch.stack(losses)


BACKWARD: dict[str, Backward] = {"per_head": per_head_backward, "one_graph": one_graph_backward}
