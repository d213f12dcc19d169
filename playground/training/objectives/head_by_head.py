"""Losses of future heads one after another, each differentiated before the next is computed.

Source: Gloeckle et al. 2024, arXiv 2404.19737, section 2 and figure 2. The trunk runs forward once, then one future head after
another forward AND backward. The gradient accumulates at the trunk output z, and the backward pass of the sum continues from
there into the trunk. Only one head's activations are in memory at a time. If future heads read one another, they run once
together with the trunk, and only what follows a head's residual stream runs one offset after another.

Each parameter receives its gradient once, in one backward pass; DistributedDataParallel, which reduces gradients between
processes, relies on that. Parameters that require no gradient receive none. If no parameter on the path of an offset requires
a gradient, as for offset 1 on a base (playground/training/base.py), its loss is computed and not differentiated.

Dimension letters: R replica, K offset.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.training.objectives.base import Losses, Weights, weighted_sum
from tasks.base import Batch

OffsetLoss = Callable[[Tensor, int], Tensor]
"""From the residual stream after the future head of an offset, `[batch, pos, d_model]`, and the offset to `[replica]`. Its
unweighted sum is differentiated."""
Part = tuple[int, Callable[[Tensor], Tensor]]
"""Index of a stream, and a function from the detached stream to a loss `[replica]`."""


def head_by_head(model: MTPTransformer, batch: Batch, offset_loss: OffsetLoss, weights: Weights = ()) -> Losses:
    """The loss of each offset 1 .. n; gradients above the trunk are computed during the forward pass.

    If every future head reads z only, each part runs one future head and `offset_loss`. If future heads read one another, all
    of them run first, and each part runs `offset_loss`. A part whose weight is None is computed without a graph. `total` can be
    differentiated only once; a second backward pass raises RuntimeError.
    """
    z, offsets = model.trunk(batch.tokens), range(1, model.n_future + 1)
    if any(len(path) > 1 for path in model.config.paths):
        parts = [(offset - 1, _for_offset(offset_loss, offset)) for offset in offsets]
        return _part_by_part(model, model.future_resids(z, batch.tokens), parts, weights)

    def from_z(leaf: Tensor, offset: int) -> Tensor:
        return offset_loss(model.future_resid(leaf, offset, batch.tokens), offset)

    return _part_by_part(model, [z], [(0, _for_offset(from_z, offset)) for offset in offsets], weights)


def _for_offset(loss: OffsetLoss, offset: int) -> Callable[[Tensor], Tensor]:
    return lambda stream: loss(stream, offset)


def _part_by_part(model: MTPTransformer, streams: list[Tensor], parts: Sequence[Part], weights: Weights) -> Losses:
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
        ctx: torch.autograd.function.FunctionCtx,
        parts: Sequence[Part],
        weights: Weights,
        n_streams: int,
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        # Detached copies stop each part's graph at the streams: the trunk is differentiated once, after all parts.
        leaves = [stream.detach().requires_grad_(stream.requires_grad) for stream in inputs[:n_streams]]
        slopes: list[Tensor | None] = [None] * len(inputs)
        index = {id(tensor): number for number, tensor in enumerate((*leaves, *inputs[n_streams:]))}
        each: list[Tensor] = []
        for (place, part), weight in zip(parts, weights or (1.0,) * len(parts), strict=True):
            leaf = leaves[place]
            with torch.set_grad_enabled(weight is not None):  # torch runs this function without gradients
                loss = part(leaf)
            each.append(loss.detach())
            if weight is None or not loss.requires_grad:
                continue
            wanted = [tensor for tensor in (leaf, *inputs[n_streams:]) if tensor.requires_grad]
            with torch.enable_grad():
                total = loss.sum()
            # No other code holds the gradients found here: they are scaled and added up in place, also in `backward`.
            found = cast(tuple[Tensor | None, ...], torch.autograd.grad(total, wanted, allow_unused=True))
            for tensor, slope in zip(wanted, found, strict=True):
                if slope is not None:
                    if weight != 1:
                        slope.mul_(weight)
                    before = slopes[index[id(tensor)]]
                    slopes[index[id(tensor)]] = slope if before is None else before.add_(slope)
        # Not save_for_backward: `backward` scales the gradients in place and then releases them.
        ctx.slopes = slopes  # pyright: ignore[reportAttributeAccessIssue]
        losses_RK = torch.stack(each, dim=1)
        ctx.mark_non_differentiable(losses_RK)
        return weighted_sum(losses_RK, weights), losses_RK

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes: list[Tensor | None] | None = ctx.slopes  # pyright: ignore[reportAttributeAccessIssue]
        if slopes is None:
            raise RuntimeError("the head-by-head loss can be differentiated once: its gradients were scaled in place")
        ctx.slopes = None  # pyright: ignore[reportAttributeAccessIssue]
        return None, None, None, *(None if slope is None else slope.mul_(grads[0]) for slope in slopes)
