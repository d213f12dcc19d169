"""The n-token loss (Gloeckle et al. 2024, section 2): the sum over offsets of the mean cross-entropy, weighted or not.

Two ways to its gradient, proved equal by the tests:

- `one_graph_loss` builds the whole sum and leaves differentiating it to torch: plain, but the logits of all n heads, where they
  are made whole, and the activations of all heads are in memory.
- `per_head_loss` goes forward through the trunk once, then head by head forward AND backward, the gradient adding up at the
  trunk output z; the backward pass that follows hands that on to the trunk. The memory of one head is needed at a time. Future
  heads that read one another run once, as a part of the trunk; then the logits alone go head by head.

Either way torch sees one backward pass, in which each parameter gets its gradient once: what reduces gradients between
processes (DistributedDataParallel) does so once. Parameters that require no gradient stay out of both. Where none of the trunk
and of an offset's path does, as on a base (playground/training/base.py), that offset's loss is computed and not differentiated.

Several replicas side by side (playground.model.stack.py) are one model here whose batch holds the rows of all of them.

Dimension letters: R replica, B batch, T position, K offset, N position of all rows, D d_model, V d_vocab.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.training.cross_entropy import linear_cross_entropy
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets


class Losses(NamedTuple):
    """The n-token loss of a batch."""

    total: Tensor
    """Scalar to differentiate: the weighted losses of all offsets (and replicas), added up."""
    each: Float[Tensor, "replica offset"]
    """Mean cross-entropy of each offset in nats per target, without weights, detached; zero where nothing is a target."""


Weights = Sequence[float | None]
"""What each offset's loss counts in the sum; None: it is computed, and not differentiated. Without entries each counts 1."""


@runtime_checkable
class Loss(Protocol):
    """From a model, a batch and, where the batch is a part of a larger one, `target_counts` of the larger."""

    def __call__(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()
    ) -> Losses: ...


def target_counts(batch: Batch, n_future: int, replicas: int = 1) -> Float[Tensor, "replica offset"]:
    """How many targets each offset has, which its loss is a mean over."""
    counts = [
        (future_targets(batch, offset) != IGNORED).view(replicas, -1).sum(dim=1) for offset in range(1, n_future + 1)
    ]
    return torch.stack(counts, dim=1).float()


def offset_loss(
    model: MTPTransformer,
    resid: Float[Tensor, "batch pos d_model"],
    batch: Batch,
    offset: int,
    counts: Tensor | None = None,
    *,
    unit: bool = False,
) -> Float[Tensor, " replica"]:
    """Mean cross-entropy (nats per target) of one offset, given the stream behind its head; zero where nothing is a target.

    `unit` promises that the plain sum of what comes back is what is differentiated.
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
) -> Float[Tensor, " offset"] | Float[Tensor, "replica offset"]:
    """The losses of all offsets in one graph, differentiable; the n-token loss is their sum."""
    resids = model.future_resids(model.trunk(batch.tokens), batch.tokens)
    losses = [offset_loss(model, resid, batch, offset, counts) for offset, resid in enumerate(resids, start=1)]
    return torch.stack(losses, dim=1)


def _weighted_sum(each_RK: Tensor, weights: Weights) -> Tensor:
    if not weights:
        return each_RK.sum()
    counted = [loss_R.sum() * w for loss_R, w in zip(each_RK.unbind(1), weights, strict=True) if w is not None]
    return torch.stack(counted).sum()


def one_graph_loss(model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()) -> Losses:
    """The whole sum as one graph."""
    each_RK = n_token_losses(model, batch, counts)
    return Losses(_weighted_sum(each_RK, weights), each_RK.detach())


def per_head_loss(model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()) -> Losses:
    """The sum head by head; its gradients behind the trunk are known when it is.

    Which of the two forms it is, the types of future heads decide: do they all read z, or one another?
    """
    z = model.trunk(batch.tokens)
    if all(len(path) == 1 for path in model.config.paths):

        def from_z(leaves: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
            for offset in range(1, model.n_future + 1):
                resid = model.future_resid(leaves[0], offset, batch.tokens)
                yield offset_loss(model, resid, batch, offset, counts, unit=True), leaves[0]

        return _part_by_part(model, [z], from_z, weights)

    def from_streams(leaves: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for offset, leaf in enumerate(leaves, start=1):
            yield offset_loss(model, leaf, batch, offset, counts, unit=True), leaf

    return _part_by_part(model, model.future_resids(z, batch.tokens), from_streams, weights)


Parts = Callable[[list[Tensor]], Iterator[tuple[Tensor, Tensor]]]
"""From streams that are leaves of their own: loss `[replica]` after loss, each with the leaf that it reads."""


def _part_by_part(model: MTPTransformer, streams: list[Tensor], parts: Parts, weights: Weights) -> Losses:
    behind = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(("blocks.", "pos_embed."))
    ]
    return Losses(*_PartByPart.apply(parts, weights, len(streams), *streams, *behind))


class _PartByPart(torch.autograd.Function):
    """A sum of parts, each differentiated before the next is computed."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, parts: Parts, weights: Weights, n_streams: int, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        leaves = [stream.detach().requires_grad_(stream.requires_grad) for stream in inputs[:n_streams]]
        slopes: list[Tensor | None] = [None] * len(inputs)
        place = {id(tensor): index for index, tensor in enumerate((*leaves, *inputs[n_streams:]))}
        each: list[Tensor] = []
        with torch.enable_grad():
            for (loss, leaf), weight in zip(parts(leaves), weights or itertools.repeat(1.0)):  # noqa: B905 (no end)
                each.append(loss.detach())
                if weight is None:
                    continue
                wanted = [tensor for tensor in (leaf, *inputs[n_streams:]) if tensor.requires_grad]
                if not loss.requires_grad:
                    continue
                # What is found belongs to nobody else: it is added to, and later scaled, where it lies.
                found = cast(tuple[Tensor | None, ...], torch.autograd.grad(loss.sum(), wanted, allow_unused=True))
                for tensor, slope in zip(wanted, found, strict=True):
                    if slope is not None:
                        if weight != 1:
                            slope.mul_(weight)
                        before = slopes[place[id(tensor)]]
                        slopes[place[id(tensor)]] = slope if before is None else before.add_(slope)
        ctx.slopes = slopes  # pyright: ignore[reportAttributeAccessIssue]
        losses_RK = torch.stack(each, dim=1)
        ctx.mark_non_differentiable(losses_RK)
        return _weighted_sum(losses_RK, weights), losses_RK

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes: list[Tensor | None] | None = ctx.slopes  # pyright: ignore[reportAttributeAccessIssue]
        if slopes is None:
            raise RuntimeError("the head-by-head loss can be differentiated once: its gradients were scaled in place")
        ctx.slopes = None  # pyright: ignore[reportAttributeAccessIssue]
        return None, None, None, *(None if slope is None else slope.mul_(grads[0]) for slope in slopes)


LOSS: dict[str, Loss] = {"per_head": per_head_loss, "one_graph": one_graph_loss}
