"""The n-token loss: the sum over offsets of the mean cross-entropy, each offset with a weight (by default 1).

Source: Gloeckle et al. 2024, "Better & Faster Large Language Models via Multi-token Prediction", arXiv 2404.19737, section 2.
Two functions compute loss and gradient; the tests prove them equal:

- `one_graph_loss` builds the sum as one autograd graph. It is the plain definition, but the activations of all n future heads
  are in memory at the same time, and so are their logits unless these are computed in chunks.
- `per_head_loss` runs the trunk forward once, then forward AND backward through one future head after another (section 2,
  figure 2 of the paper). The gradient accumulates at the trunk output z, and the backward pass of the loss continues from there
  into the trunk. Only one head's activations are in memory at a time. If future heads read one another, they run once together
  with the trunk, and only final norm, unembedding and cross-entropy run one offset after another.

With both, each parameter receives its gradient once, in one backward pass; DistributedDataParallel, which reduces gradients
between processes, relies on that. Parameters that require no gradient receive none. If no parameter on the path of an offset
requires a gradient, as for offset 1 on a base (playground/training/base.py), its loss is computed and not differentiated.

Several replicas side by side (playground/model/stack.py) are here one model, whose batch holds the rows of all replicas.

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
    """Scalar to differentiate: the sum of the weighted losses of all offsets and replicas."""
    each: Float[Tensor, "replica offset"]
    """Mean cross-entropy of each offset in nats per target, without weights, detached; zero for an offset without targets."""


Weights = Sequence[float | None]
"""Weight of each offset's loss in the sum, offset 1 first; None: computed, not differentiated. Empty: every weight is 1."""


@runtime_checkable
class Loss(Protocol):
    """A function from model and batch to the n-token loss.

    If the batch is a part of a larger one, `counts` is `target_counts` of the larger: the losses of the parts then add up to
    that of the whole.
    """

    def __call__(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()
    ) -> Losses: ...


def target_counts(batch: Batch, n_future: int, replicas: int = 1) -> Float[Tensor, "replica offset"]:
    """Number of targets of each offset: the denominator of its mean cross-entropy."""
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
) -> Float[Tensor, " offset"] | Float[Tensor, "replica offset"]:
    """Mean cross-entropy of each offset (nats per target), in one autograd graph; the unweighted n-token loss is their sum."""
    resids = model.future_resids(model.trunk(batch.tokens), batch.tokens)
    losses = [offset_loss(model, resid, batch, offset, counts) for offset, resid in enumerate(resids, start=1)]
    return torch.stack(losses, dim=1)


def _weighted_sum(each_RK: Tensor, weights: Weights) -> Tensor:
    if not weights:
        return each_RK.sum()
    counted = [loss_R.sum() * w for loss_R, w in zip(each_RK.unbind(1), weights, strict=True) if w is not None]
    return torch.stack(counted).sum()


def one_graph_loss(model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()) -> Losses:
    """The n-token loss as one autograd graph: the plain definition, which needs the memory of all future heads at once."""
    each_RK = n_token_losses(model, batch, counts)
    return Losses(_weighted_sum(each_RK, weights), each_RK.detach())


def per_head_loss(model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()) -> Losses:
    """The n-token loss, one offset after another; gradients above the trunk are computed during the forward pass.

    If every future head reads z only, each part runs one future head, the unembedding and the cross-entropy. If future heads
    read one another, all of them run first, and each part runs the unembedding and the cross-entropy of one offset. `total` can
    be differentiated only once; a second backward pass raises RuntimeError.
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
"""From streams without a graph to the losses of offsets 1 .. n, each `[replica]`, with the stream that it was computed from.

A lazy iterator: the next loss must be computed only after the one before has been differentiated and its memory freed."""


def _part_by_part(model: MTPTransformer, streams: list[Tensor], parts: Parts, weights: Weights) -> Losses:
    # Parameters that only the trunk uses are left out: their gradient comes through `streams`. The embedding stays in, because
    # some future heads read the embeddings of later tokens; autograd adds that part to the gradient through the trunk.
    downstream = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(("blocks.", "pos_embed."))
    ]
    return Losses(*_PartByPart.apply(parts, weights, len(streams), *streams, *downstream))


class _PartByPart(torch.autograd.Function):
    """Autograd function of a sum of losses, each of which is differentiated before the next is computed.

    Inputs are the streams, then the parameters downstream of them. They are explicit inputs so that autograd gives each its
    gradient once, in `backward`; a nested `.backward()` would write to `.grad` during the forward pass, and for each offset
    again, which DistributedDataParallel does not support.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, parts: Parts, weights: Weights, n_streams: int, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        # Detached copies stop each part's graph at the streams: the trunk is differentiated once, after all parts.
        leaves = [stream.detach().requires_grad_(stream.requires_grad) for stream in inputs[:n_streams]]
        slopes: list[Tensor | None] = [None] * len(inputs)
        place = {id(tensor): index for index, tensor in enumerate((*leaves, *inputs[n_streams:]))}
        each: list[Tensor] = []
        with torch.enable_grad():  # torch runs the forward of an autograd function without gradients
            for (loss, leaf), weight in zip(parts(leaves), weights or itertools.repeat(1.0)):  # noqa: B905 (no end)
                each.append(loss.detach())
                if weight is None:
                    continue
                wanted = [tensor for tensor in (leaf, *inputs[n_streams:]) if tensor.requires_grad]
                if not loss.requires_grad:
                    continue
                # No other code holds the gradients found here: they are scaled and added up in place, also in `backward`.
                found = cast(tuple[Tensor | None, ...], torch.autograd.grad(loss.sum(), wanted, allow_unused=True))
                for tensor, slope in zip(wanted, found, strict=True):
                    if slope is not None:
                        if weight != 1:
                            slope.mul_(weight)
                        before = slopes[place[id(tensor)]]
                        slopes[place[id(tensor)]] = slope if before is None else before.add_(slope)
        # Not save_for_backward: `backward` scales the gradients in place and then releases them.
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
