"""Attention of few queries to many keys on a GPU, the keys split among many programs ("flash decoding", Dao et al. 2023).

General kernels start one program for each row and attention head; it loops over all keys while most of the GPU is idle. Here
each program processes a part of the keys and stores the maximum score, the sum of the exponentials and the weighted sum of the
values; a second kernel combines the parts.

Imported on CUDA only: triton comes with torch's CUDA builds.
"""

# pyright: reportMissingImports=false, reportMissingParameterType=false, reportIndexIssue=false
# ruff: noqa: PLR0913

import torch
import triton
import triton.language as tl
from torch import Tensor

KEYS = 64
"""Keys per iteration of a program."""
PROGRAMS = 264
"""Target for the total number of programs: two for each multiprocessor of the largest GPUs."""


@triton.jit
def _mix_parts(
    q,
    k,
    v,
    mask,
    top,
    total,
    mixed,
    n_queries,
    n_keys,
    n_heads,
    part_length,
    q_row,
    q_head,
    q_token,
    k_row,
    k_head,
    k_slot,
    mask_row,
    mask_token,
    SCALE: tl.constexpr,
    D_HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Attend to one part of the keys, for all queries of one row and attention head."""
    place, part, n_parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row, head = (place // n_heads).to(tl.int64), place % n_heads
    query, dim = tl.arange(0, QUERIES), tl.arange(0, D_HEAD)
    is_query = query[:, None] < n_queries
    queries = tl.load(q + row * q_row + head * q_head + query[:, None] * q_token + dim, mask=is_query, other=0.0)
    best = tl.full((QUERIES,), float("-inf"), tl.float32)
    sums = tl.zeros((QUERIES,), tl.float32)
    mix = tl.zeros((QUERIES, D_HEAD), tl.float32)
    end = tl.minimum((part + 1) * part_length, n_keys)
    for start in range(part * part_length, end, KEYS):
        slot = start + tl.arange(0, KEYS)
        is_key = slot < end
        at = row * k_row + head * k_head + slot[:, None] * k_slot + dim
        keys = tl.load(k + at, mask=is_key[:, None], other=0.0)
        values = tl.load(v + at, mask=is_key[:, None], other=0.0)
        seen = tl.load(
            mask + row * mask_row + query[:, None] * mask_token + slot, mask=is_query & is_key, other=float("-inf")
        ).to(tl.float32)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * SCALE + seen
        # Online softmax: sums so far are rescaled whenever the maximum grows. `safe`: while every key is masked the maximum is
        # -inf, and -inf minus -inf would be NaN.
        new = tl.maximum(best, tl.max(scores, 1))
        safe = tl.where(new == float("-inf"), 0.0, new)
        weight, shrink = tl.exp(scores - safe[:, None]), tl.exp(best - safe)
        sums = sums * shrink + tl.sum(weight, 1)
        mix = mix * shrink[:, None] + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        best = new
    out = (place * n_parts + part) * QUERIES + query
    tl.store(top + out, best)
    tl.store(total + out, sums)
    tl.store(mixed + out[:, None] * D_HEAD + dim, mix)


@triton.jit
def _join_parts(
    top, total, mixed, z, n_parts, n_queries, n_heads, D_HEAD: tl.constexpr, QUERIES: tl.constexpr, PARTS: tl.constexpr
):
    """Combine the parts of one query of one row and attention head."""
    place, query = tl.program_id(0), tl.program_id(1)
    row, head = (place // n_heads).to(tl.int64), place % n_heads
    part, dim = tl.arange(0, PARTS), tl.arange(0, D_HEAD)
    is_part = part < n_parts
    at = (place * n_parts + part) * QUERIES + query
    tops = tl.load(top + at, mask=is_part, other=float("-inf"))
    weight = tl.exp(tops - tl.max(tops, 0))
    sums = tl.sum(weight * tl.load(total + at, mask=is_part, other=0.0), 0)
    parts = tl.load(mixed + at[:, None] * D_HEAD + dim, mask=is_part[:, None], other=0.0)
    mix = tl.sum(parts * weight[:, None], 0) / sums
    tl.store(z + ((row * n_queries + query) * n_heads + head) * D_HEAD + dim, mix.to(z.dtype.element_ty))


def split_attention(q_BHTE: Tensor, keys_BHSE: Tensor, values_BHSE: Tensor, mask: Tensor) -> Tensor:
    """Attention output `[row, head, token, d_head]`; `mask` `[row, 1, token, slot]` is added to the scores.

    d_head must be a power of two of at least 16. Keys and values must have equal strides, because the kernel uses the strides
    of the keys for both, and their last dimension must be contiguous.
    """
    rows, heads, queries, width = q_BHTE.shape
    slots = keys_BHSE.shape[2]
    padded = max(16, triton.next_power_of_2(queries))  # tl.dot needs at least 16 rows
    parts = max(1, min(triton.cdiv(PROGRAMS, rows * heads), triton.cdiv(slots, KEYS)))
    length = triton.cdiv(triton.cdiv(slots, parts), KEYS) * KEYS
    parts = triton.cdiv(slots, length)
    top = torch.empty(rows * heads, parts, padded, dtype=torch.float32, device=q_BHTE.device)
    total, mixed = torch.empty_like(top), torch.empty(*top.shape, width, dtype=torch.float32, device=q_BHTE.device)
    z_BTHE = torch.empty(rows, queries, heads, width, dtype=values_BHSE.dtype, device=q_BHTE.device)
    q_strides = (q_BHTE.stride(0), q_BHTE.stride(1), q_BHTE.stride(2))
    k_strides = (keys_BHSE.stride(0), keys_BHSE.stride(1), keys_BHSE.stride(2))
    _mix_parts[(rows * heads, parts)](
        q_BHTE,
        keys_BHSE,
        values_BHSE,
        mask,
        top,
        total,
        mixed,
        queries,
        slots,
        heads,
        length,
        *q_strides,
        *k_strides,
        mask.stride(0),
        mask.stride(2),
        SCALE=width**-0.5,
        D_HEAD=width,
        QUERIES=padded,
        KEYS=KEYS,
    )
    _join_parts[(rows * heads, queries)](
        top,
        total,
        mixed,
        z_BTHE,
        parts,
        queries,
        heads,
        D_HEAD=width,
        QUERIES=padded,
        PARTS=triton.next_power_of_2(parts),
    )
    return z_BTHE.transpose(1, 2)
