"""Cross-entropy of logits that are never all in memory.

The unembedding and the cross-entropy after it are computed in chunks of positions. The logits of a chunk give its part of the
loss and, in the same forward pass, its part of the gradients with respect to stream and unembedding; they are freed before the
logits of the next chunk are computed. The gradients are kept for the backward pass (as in Liger Kernel, Hsu et al. 2024,
2410.10989, section 3.2). Small logits are computed in one piece, which is faster.

torch has `linear_cross_entropy` from version 2.13 on, for one model; this project supports older versions and stacks of models.

Several models side by side (playground/model/stack.py) have a leading dimension R; one model has R = 1.

Dimension letters: R replica, N position of all rows, C position of a chunk, D d_model, V d_vocab.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tasks.targets import IGNORED

WHOLE = 2**23
"""Largest number of logits that are computed in one piece; inside `fused_cross_entropy` all go through chunks."""
CHUNK = {"cpu": 2**21, "cuda": 2**28}
"""Largest number of logits in a chunk, by device: few large products keep a GPU busy, small ones fit into a CPU's cache."""


def linear_cross_entropy(
    stream: Float[Tensor, "replica pos d_model"],
    weight: Float[Tensor, "replica d_vocab d_model"],
    targets: Int[Tensor, "replica pos"],
    scale: Float[Tensor, " replica"] | None = None,
    *,
    chunk: int | None = None,
    unit: bool = False,
) -> Float[Tensor, " replica"]:
    """Summed cross-entropy (nats) of each replica's targets under the logits `stream @ weight.T`, times `scale` (a constant).

    Targets equal to IGNORED add zero. `chunk` is the number of positions in a chunk; by default one that gives at most `CHUNK`
    logits, or a single piece for up to `WHOLE` logits. `unit=True` is a promise of the caller: the unweighted sum of the result
    is differentiated, so the incoming gradient is 1 and the gradients need no further scaling. Under autocast the matrix
    products run in half precision and the softmax in float32. A result computed in chunks can be differentiated only once; a
    second backward pass raises RuntimeError.
    """
    if not torch.is_grad_enabled():  # an autograd function does not see that, and would compute gradients
        stream, weight = stream.detach(), weight.detach()
    replicas, positions, d_vocab = len(stream), stream.shape[1], weight.shape[1]
    if scale is None:
        scale = torch.ones(replicas, device=stream.device)
    if chunk is None:
        if replicas * positions * d_vocab <= WHOLE and not _FUSED.get():
            return _whole(stream, weight, targets) * scale
        chunk = max(1, CHUNK[stream.device.type] // (replicas * d_vocab))
    return _Chunked.apply(stream, weight, targets, scale, chunk, unit)


def _whole(stream_RND: Tensor, weight_RVD: Tensor, targets_RN: Tensor) -> Tensor:
    logits_RNV = _product(stream_RND, weight_RVD.transpose(1, 2))
    losses_N = F.cross_entropy(logits_RNV.flatten(0, 1), targets_RN.flatten(), ignore_index=IGNORED, reduction="none")
    return losses_N.view_as(targets_RN).sum(dim=1)


class _Chunked(torch.autograd.Function):
    """Autograd function of the summed cross-entropy `[replica]`; the gradients are computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        stream_RND: Tensor,
        weight_RVD: Tensor,
        targets_RN: Tensor,
        scale_R: Tensor,
        chunk: int,
        unit: bool,
    ) -> Tensor:
        dtype = _product_dtype(stream_RND)
        weight = weight_RVD.to(dtype)
        exact = torch.promote_types(dtype, torch.float32)  # sums over many targets lose too much in half precision
        total_R = torch.zeros(len(targets_RN), dtype=exact, device=targets_RN.device)
        needs_stream, needs_weight = ctx.needs_input_grad[:2]  # pyright: ignore[reportAttributeAccessIssue]
        stream_slopes: list[Tensor] = []
        weight_slopes: Tensor | None = None
        loss_and_slope = _fused_loss_and_slope if _FUSED.get() else _loss_and_slope
        # autocast is off because the types are chosen here: `dtype` for products, at least float32 for softmax and sums.
        with torch.autocast(stream_RND.device.type, enabled=False):
            for start in range(0, targets_RN.shape[1], chunk):
                part = slice(start, start + chunk)
                inputs = stream_RND[:, part].to(dtype)
                loss_R, slope_RCV = loss_and_slope(
                    _product(inputs, weight.transpose(1, 2)), targets_RN[:, part], scale_R
                )
                total_R += loss_R
                if needs_stream:
                    stream_slopes.append(_product(slope_RCV, weight).to(stream_RND.dtype))
                if needs_weight:
                    found = _product(slope_RCV.transpose(1, 2), inputs)
                    # Chunks are added up in the type of the weight, not in half precision.
                    weight_slopes = found.to(weight_RVD.dtype) if weight_slopes is None else weight_slopes.add_(found)
                    del found
                del slope_RCV  # otherwise it is still in memory next to the logits of the next chunk
        of_stream = torch.cat(stream_slopes, dim=1) if len(stream_slopes) > 1 else next(iter(stream_slopes), None)
        # Not save_for_backward: `backward` scales the gradients in place and then releases them, which needs no second copy.
        ctx.slopes, ctx.unit = (of_stream, weight_slopes), unit  # pyright: ignore[reportAttributeAccessIssue]
        return total_R

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes: tuple[Tensor | None, ...] | None = ctx.slopes  # pyright: ignore[reportAttributeAccessIssue]
        if slopes is None:
            raise RuntimeError("a loss in chunks can be differentiated once: its gradients were scaled in place")
        ctx.slopes = None  # pyright: ignore[reportAttributeAccessIssue]
        if not ctx.unit:  # pyright: ignore[reportAttributeAccessIssue]
            # The chain rule: both gradients are linear in the gradient of the sum, one number for each replica, `[R, 1, 1]`.
            factor = grads[0][:, None, None]
            slopes = tuple(None if slope is None else slope.mul_(factor.to(slope.dtype)) for slope in slopes)
        return *slopes, None, None, None, None


def _loss_and_slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a chunk for each replica, and the gradient of the sum of these losses with respect to the logits.

    The gradient at a position is (softmax - one-hot target) times the position's weight, in the type of the logits.
    """
    log_p_RCV = logits_RCV.to(torch.promote_types(logits_RCV.dtype, torch.float32)).log_softmax(dim=-1)
    weight_RC = _weights(targets_RC, scale_R, log_p_RCV.dtype)
    targets_RC1 = targets_RC.where(targets_RC != IGNORED, 0)[..., None]  # any valid index: its weight is zero
    loss_R = -(log_p_RCV.gather(2, targets_RC1)[..., 0] * weight_RC).sum(dim=1)
    at_target_RCV = torch.arange(logits_RCV.shape[-1], device=logits_RCV.device) == targets_RC1
    slope_RCV = (log_p_RCV.exp() - at_target_RCV.to(log_p_RCV.dtype)) * weight_RC[..., None]
    return loss_R, slope_RCV.to(logits_RCV.dtype)


def _weights(targets_RC: Tensor, scale_R: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight of each position in the loss: the scale of its replica, or zero if its target is IGNORED."""
    return (targets_RC != IGNORED) * scale_R[:, None].to(dtype)


ROW = 2**10
"""Largest number of logits of a row that a compiled kernel holds at once; sums over longer rows are slow."""
ALIGNED = 8
"""Number of elements that a kernel reads at once; parts of a row are multiples of it where possible."""


def _fused_loss_and_slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """`_loss_and_slope` in a few compiled kernels: plain torch reads or writes the logits about a dozen times.

    Rows longer than ROW are done in two functions: first loss and normaliser in parts of a row, then the gradient.
    """
    if logits_RCV.shape[-1] <= ROW:
        return _compiled(_loss_and_slope)(logits_RCV, targets_RC, scale_R)
    loss_R, log_sum_RC = _compiled(_loss_of_long_rows)(logits_RCV, targets_RC, scale_R)
    return loss_R, _compiled(_slope)(logits_RCV, targets_RC, scale_R, log_sum_RC)


def _loss_of_long_rows(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a chunk for each replica, and log-sum-exp of the logits at every position, computed in equal parts of the row."""
    exact_RCV = logits_RCV.to(torch.promote_types(logits_RCV.dtype, torch.float32))
    log_sum_RC = exact_RCV.unflatten(-1, (parts_of_row(logits_RCV.shape[-1]), -1)).logsumexp(dim=-1).logsumexp(dim=-1)
    at_target_RC = exact_RCV.gather(2, targets_RC.where(targets_RC != IGNORED, 0)[..., None])[..., 0]
    return ((log_sum_RC - at_target_RC) * _weights(targets_RC, scale_R, exact_RCV.dtype)).sum(dim=1), log_sum_RC


def parts_of_row(d_vocab: int) -> int:
    """Number of equal parts of a row that each have at most ROW logits, and at least 32; 1 if there is no such number.

    The smallest such number whose parts are multiples of ALIGNED, or else the smallest at all.

    >>> parts_of_row(1160), parts_of_row(32_000), parts_of_row(1162), parts_of_row(1163)
    (5, 32, 2, 1)
    """
    fitting = [parts for parts in range(1, d_vocab // 32 + 1) if d_vocab % parts == 0 and d_vocab // parts <= ROW]
    return next((parts for parts in fitting if d_vocab // parts % ALIGNED == 0), fitting[0] if fitting else 1)


def _slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor, log_sum_RC: Tensor) -> Tensor:
    """Gradient of a chunk's summed loss with respect to its logits, given their log-sum-exp.

    An IGNORED target equals no index of the vocabulary, and its weight is zero.
    """
    at_target_RCV = torch.arange(logits_RCV.shape[-1], device=logits_RCV.device) == targets_RC[..., None]
    p_RCV = (logits_RCV.to(log_sum_RC.dtype) - log_sum_RC[..., None]).exp()
    weight_RC = _weights(targets_RC, scale_R, p_RCV.dtype)
    return ((p_RCV - at_target_RCV.to(p_RCV.dtype)) * weight_RC[..., None]).to(logits_RCV.dtype)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


_FUSED = contextvars.ContextVar("fused", default=False)


@contextlib.contextmanager
def fused_cross_entropy() -> Iterator[None]:
    """Inside this block every cross-entropy is computed in chunks, by compiled kernels."""
    before = _FUSED.set(True)
    try:
        yield
    finally:
        _FUSED.reset(before)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of each replica: `[R, a, b] x [R, b, c] -> [R, a, c]`. One model takes the faster plain product."""
    return (left[0] @ right[0])[None] if len(left) == 1 else left @ right


def _product_dtype(stream: Tensor) -> torch.dtype:
    """Type of the matrix products: that of autocast if it is enabled on the stream's device, else the stream's own."""
    device = stream.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else stream.dtype
