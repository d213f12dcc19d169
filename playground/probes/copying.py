"""Copying: does a head raise the logit of the very token that it attends to?

Row a of a head's whole OV circuit, W_E W_V W_O W_U, holds what attending to token a does to the logit of every token (Elhage
et al. 2021, "A mathematical framework for transformer circuits"). Two scores of such a d_vocab x d_vocab matrix:

- eigenvalues: sum of Re(lambda) / sum of |lambda|. Copying shows as positive eigenvalues: sets of tokens that raise their own
  logits. 1 is pure copying, -1 pure suppression, and a random head's lie around the whole circle, about 0. Moving all logits
  alike, which no softmax sees, is one more eigenvalue.
- top-1: the share of tokens whose largest entry in their row is their own, which a random head reaches for 1 / d_vocab of them.

Chance is larger than 0 and 1 / d_vocab: a circuit has few eigenvalues, which may lie to the right by luck. So every score has
a null band: the 99th percentile (playground/probes/null_band.py) of the same score with the tokens of the unembedding permuted,
by the same permutations for all heads. That keeps the singular values of both halves of the circuit, W_E W_V and W_O W_U, and
the tokens that it raises for many others alike, and destroys which token goes with which.

The matrix has rank d_head. Its eigenvalues other than 0 are those of the d_head x d_head matrix W_O W_U W_E W_V (XY and YX
share them); of its rows only the largest entry is kept.

What a trunk head writes passes a future head's layer before the unembedding. So every figure belongs to a path: `direct`,
through the residual stream past everything between, or `through` one head of a future head, W_E OV_a OV_b W_U. MLPs are passed
by; norms are folded in as playground/probes/weights.py says. Replicated unembeddings: a path ends at that of the offset of its
future head, and where it has none at that of offset 1. playground/probes/through_layers.py sends a path through the
later layers as they are.

Dimension letters: A trunk head, D d_model, E d_head, V d_vocab, F head of a future head, N draw.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.null_band import DRAWS, band_of
from playground.probes.weights import HeadWeights, head_weights
from playground.results import Copying
from tasks.base import seeded_generator

MOST_ENTRIES = 1 << 22
"""Entries of a circuit that are in memory at a time."""
SEED = 20211223


@torch.no_grad()
def copying(model: MTPTransformer, generator: torch.Generator | None = None) -> Copying:
    """Both scores of every head to the unembedding, and of every trunk head through every head of the future heads.

    `generator` (on the CPU) draws the permutations of the null bands; without one they are the same in every call.
    """
    generator = seeded_generator(SEED) if generator is None else generator
    w = head_weights(model)
    tokens = torch.arange(len(w.W_E))
    orders_NV = torch.stack([tokens, *(torch.randperm(len(tokens), generator=generator) for _ in range(DRAWS))])
    scores_N, through_N = _eigenvalues(w, orders_NV)
    top1_N, through_top1_N = _direct_top1(w, orders_NV), _through_top1(w, model.config.n_heads, orders_NV)
    return Copying(
        heads=w.heads,
        via=w.heads[w.n_trunk :],
        chance_top1=1 / len(tokens),
        direct_eigenvalues=scores_N[0],
        direct_eigenvalues_null=band_of(scores_N[1:]),
        direct_top1=top1_N[0],
        direct_top1_null=band_of(top1_N[1:]),
        through_eigenvalues=through_N[0],
        through_eigenvalues_null=band_of(through_N[1:]),
        through_top1=through_top1_N[0],
        through_top1_null=band_of(through_top1_N[1:]),
    )


def eigenvalue_score(matrices: Float[Tensor, "n side side"]) -> Float[np.ndarray, " n"]:
    """Sum of Re(lambda) / sum of |lambda| of each matrix, in [-1, 1]; 0 where all are 0, NaN where an entry is not finite."""
    finite = matrices.isfinite().all(dim=(1, 2))
    safe = torch.where(finite[:, None, None], matrices, 0.0)
    values = torch.linalg.eigvals(safe.double().cpu())
    size = values.abs().sum(dim=1)
    score = values.real.sum(dim=1) / size.clamp(min=torch.finfo(size.dtype).tiny)
    return torch.where(finite.cpu(), score, torch.nan).numpy()


def largest_columns(
    left: Float[Tensor, "d_vocab inner"], right: Float[Tensor, "inner d_vocab"]
) -> Int[Tensor, " d_vocab"] | None:
    """The column of the largest entry of each row of left @ right, -1 where two are equally large; None for infinite entries.

    Takes MOST_ENTRIES of the matrix at a time.
    """
    found = []
    for rows in left.split(max(1, MOST_ENTRIES // len(left))):
        entries = rows @ right
        if not entries.isfinite().all():
            return None
        largest, column = entries.max(dim=1)
        found.append(torch.where((entries == largest[:, None]).sum(dim=1) > 1, -1, column))
    return torch.cat(found)


def top1_scores(
    left: Float[Tensor, "d_vocab inner"], right: Float[Tensor, "inner d_vocab"], orders: Int[Tensor, "draw d_vocab"]
) -> Float[np.ndarray, " draw"]:
    """For each order the share of rows i of left @ right whose largest entry is in column order[i]: the diagonal, permuted.

    NaN for a matrix that is not finite.
    """
    columns_V = largest_columns(left, right)
    if columns_V is None:
        return np.full(len(orders), np.nan)
    return (columns_V.cpu() == orders).double().mean(dim=1).numpy()


def _eigenvalues(w: HeadWeights, orders: Int[Tensor, "draw d_vocab"]) -> tuple[np.ndarray, np.ndarray]:
    """`[draw, head]` directly, `[draw, head, via]` with NaN for heads of the future heads, the outputs in each order."""
    d_model, d_vocab = w.W_U.shape
    parts = [_in_orders(w, part) for part in orders.split(max(1, MOST_ENTRIES // (d_model * d_vocab)))]
    return np.concatenate([direct for direct, _ in parts]), np.concatenate([through for _, through in parts])


def _in_orders(w: HeadWeights, orders: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The same for a few orders at a time."""
    number = np.array([w.unembedding_of(head) for head in w.heads])
    direct = np.zeros((len(orders), len(number)))
    through = np.full((len(orders), len(number), len(number)), np.nan)
    for which in set(number.tolist()):
        back_NDD = w.W_Us[which][:, orders.to(w.W_E.device)].movedim(1, 0) @ w.W_E
        own, via = (number == which).nonzero()[0], (number[w.n_trunk :] == which).nonzero()[0] + w.n_trunk
        direct_NFEE = w.W_O[own] @ back_NDD[:, None] @ w.W_V[own]
        direct[:, own] = eigenvalue_score(direct_NFEE.flatten(0, 1)).reshape(direct_NFEE.shape[:2])
        for a in range(w.n_trunk):
            through_NFEE = w.W_O[via] @ (back_NDD @ w.W_V[a])[:, None] @ (w.W_O[a] @ w.W_V[via])
            through[:, a, via] = eigenvalue_score(through_NFEE.flatten(0, 1)).reshape(through_NFEE.shape[:2])
    return direct, through[:, :, w.n_trunk :]


def _direct_top1(w: HeadWeights, orders: Tensor) -> np.ndarray:
    """`[draw, head]`"""
    found = [
        top1_scores(w.W_E @ W_V, W_O @ w.W_Us[w.unembedding_of(head)], orders)
        for head, W_V, W_O in zip(w.heads, w.W_V, w.W_O, strict=True)
    ]
    return np.array(found).reshape(-1, len(orders)).T


def _through_top1(w: HeadWeights, n_heads: int, orders: Tensor) -> np.ndarray:
    """`[draw, head, via]`, one future head after another, so that no more than its heads' unembedded outputs are in memory."""
    through = np.full((len(orders), len(w.heads), len(w.heads) - w.n_trunk), np.nan)
    for first in range(w.n_trunk, len(w.heads), n_heads):
        W_V = w.W_V[first : first + n_heads]
        out_FEV = w.W_O[first : first + n_heads] @ w.W_Us[w.unembedding_of(w.heads[first])]
        for a in range(w.n_trunk):
            left_VE, middle_FEE = w.W_E @ w.W_V[a], w.W_O[a] @ W_V
            for f, (middle, out) in enumerate(zip(middle_FEE, out_FEV, strict=True)):
                through[:, a, first - w.n_trunk + f] = top1_scores(left_VE, middle @ out, orders)
    return through
