"""Cross-entropy of logits that are never all in memory.

The unembedding and the cross-entropy behind it go through in chunks of positions: a chunk's logits give its part of the loss
and at once the gradients of stream and unembedding, and are gone before the next chunk's are made. The gradients are kept for
the backward pass (as in Liger Kernel, Hsu et al. 2024, 2410.10989, section 3.2). Small logits are made whole, which is faster.

torch's own `linear_cross_entropy` does this from version 2.13 on, for one model, and not yet in the versions before.

Several models side by side (playground.model.stack.py) have a leading dimension R; one model has R = 1.

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
"""Logits up to this many numbers are made at once, unless they are fused."""
CHUNK = {"cpu": 2**21, "cuda": 2**28}
"""How many logits a chunk has at most. Few large products keep a GPU busy; a CPU keeps small ones in its cache."""


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

    Ignored targets add zero. Differentiate it once; `unit` promises that the plain sum of what comes back is what is
    differentiated, so that the gradients need not be scaled again. `chunk` positions go through at a time; by default as
    many as memory likes. Under autocast the products run in half precision and the softmax in float32.
    """
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
    """The same sum; its gradients are found while going forward."""

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
        exact = torch.promote_types(dtype, torch.float32)
        total_R = torch.zeros(len(targets_RN), dtype=exact, device=targets_RN.device)
        needs_stream, needs_weight = ctx.needs_input_grad[:2]  # pyright: ignore[reportAttributeAccessIssue]
        stream_slopes: list[Tensor] = []
        weight_slopes: Tensor | None = None
        loss_and_slope = _fused_loss_and_slope if _FUSED.get() else _loss_and_slope
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
                    weight_slopes = found.to(weight_RVD.dtype) if weight_slopes is None else weight_slopes.add_(found)
                    del found
                del slope_RCV  # before the next chunk's logits are made
        of_stream = torch.cat(stream_slopes, dim=1) if len(stream_slopes) > 1 else next(iter(stream_slopes), None)
        ctx.slopes, ctx.unit = (of_stream, weight_slopes), unit  # pyright: ignore[reportAttributeAccessIssue]
        return total_R

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes: tuple[Tensor | None, ...] | None = ctx.slopes  # pyright: ignore[reportAttributeAccessIssue]
        if slopes is None:
            raise RuntimeError("a loss in chunks can be differentiated once: its gradients were scaled in place")
        ctx.slopes = None  # pyright: ignore[reportAttributeAccessIssue]
        if not ctx.unit:  # pyright: ignore[reportAttributeAccessIssue]
            factor = grads[0][:, None, None]
            slopes = tuple(None if slope is None else slope.mul_(factor.to(slope.dtype)) for slope in slopes)
        return *slopes, None, None, None, None


def _loss_and_slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """A chunk's loss of each replica, and the slope of their sum by the logits: softmax less one at the target, scaled."""
    log_p_RCV = logits_RCV.to(torch.promote_types(logits_RCV.dtype, torch.float32)).log_softmax(dim=-1)
    weight_RC = _weights(targets_RC, scale_R, log_p_RCV.dtype)
    targets_RC1 = targets_RC.where(targets_RC != IGNORED, 0)[..., None]
    loss_R = -(log_p_RCV.gather(2, targets_RC1)[..., 0] * weight_RC).sum(dim=1)
    at_target_RCV = torch.arange(logits_RCV.shape[-1], device=logits_RCV.device) == targets_RC1
    slope_RCV = (log_p_RCV.exp() - at_target_RCV.to(log_p_RCV.dtype)) * weight_RC[..., None]
    return loss_R, slope_RCV.to(logits_RCV.dtype)


def _weights(targets_RC: Tensor, scale_R: Tensor, dtype: torch.dtype) -> Tensor:
    """What each position counts: its replica's scale, and zero where nothing is a target."""
    return (targets_RC != IGNORED) * scale_R[:, None].to(dtype)


ROW = 2**10
"""Numbers of a row that a compiled kernel holds at once; sums over longer rows are slow."""
ALIGNED = 8
"""Numbers that a kernel reads at once."""


def _fused_loss_and_slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """The same in few kernels that read the logits and write the slopes, where plain torch goes over them a dozen times."""
    if logits_RCV.shape[-1] <= ROW:
        return _compiled(_loss_and_slope)(logits_RCV, targets_RC, scale_R)
    loss_R, log_sum_RC = _compiled(_loss_of_long_rows)(logits_RCV, targets_RC, scale_R)
    return loss_R, _compiled(_slope)(logits_RCV, targets_RC, scale_R, log_sum_RC)


def _loss_of_long_rows(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """A chunk's loss of each replica, and the logarithm of the sum of exponentials of every row, summed part by part."""
    exact_RCV = logits_RCV.to(torch.promote_types(logits_RCV.dtype, torch.float32))
    log_sum_RC = exact_RCV.unflatten(-1, (parts_of_row(logits_RCV.shape[-1]), -1)).logsumexp(dim=-1).logsumexp(dim=-1)
    at_target_RC = exact_RCV.gather(2, targets_RC.where(targets_RC != IGNORED, 0)[..., None])[..., 0]
    return ((log_sum_RC - at_target_RC) * _weights(targets_RC, scale_R, exact_RCV.dtype)).sum(dim=1), log_sum_RC


def parts_of_row(d_vocab: int) -> int:
    """Into how many equal parts a row is cut so that a kernel holds one; 1 where only crumbs would do.

    >>> parts_of_row(1160), parts_of_row(32_000), parts_of_row(1162), parts_of_row(1163)
    (5, 32, 2, 1)
    """
    fitting = [parts for parts in range(1, d_vocab // 32 + 1) if d_vocab % parts == 0 and d_vocab // parts <= ROW]
    return next((parts for parts in fitting if d_vocab // parts % ALIGNED == 0), fitting[0] if fitting else 1)


def _slope(logits_RCV: Tensor, targets_RC: Tensor, scale_R: Tensor, log_sum_RC: Tensor) -> Tensor:
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
    """Chunks go through compiled kernels in here."""
    before = _FUSED.set(True)
    try:
        yield
    finally:
        _FUSED.reset(before)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of each replica."""
    return (left[0] @ right[0])[None] if len(left) == 1 else left @ right


def _product_dtype(stream: Tensor) -> torch.dtype:
    device = stream.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else stream.dtype
