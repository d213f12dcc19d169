"""Copying: does a head raise the logit of the very token that it attends to?

Row a of a head's whole OV circuit, W_E W_V W_O W_U, holds what attending to token a does to the logit of every token (Elhage
et al. 2021, "A mathematical framework for transformer circuits"). Two scores of such a d_vocab x d_vocab matrix:

- eigenvalues: sum of Re(lambda) / sum of |lambda|. Copying shows as positive eigenvalues: sets of tokens that raise their own
  logits. 1 is pure copying, -1 pure suppression, and a random head's lie around the whole circle, about 0. Moving all logits
  alike, which no softmax sees, is one more eigenvalue.
- top-1: the share of tokens whose largest entry in their row is their own, which a random head reaches for 1 / d_vocab of them.

The matrix has rank d_head. Its eigenvalues other than 0 are those of the d_head x d_head matrix W_O W_U W_E W_V (XY and YX
share them); of its rows only those are worked out whose own entry is still the largest.

What a trunk head writes passes a future head's layer before the unembedding. So every figure belongs to a path: `direct`,
through the residual stream past everything between, or `through` one head of a future head, W_E OV_a OV_b W_U. MLPs are passed
by; norms are folded in as playground/probes/weights.py says. Replicated unembeddings: a path ends at that of the offset of its
future head, and where it has none at that of offset 1. playground/probes/through_layers.py sends a path through the
later layers as they are.

Dimension letters: D d_model, E d_head, V d_vocab, F head of a future head.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.weights import HeadWeights, head_weights
from playground.results import Copying

MOST_ENTRIES = 1 << 22
"""Entries of a circuit that are in memory at a time."""
FIRST_COLUMNS = 64
"""Columns that are looked at first, in which a row of a random circuit almost certainly loses."""


@torch.no_grad()
def copying(model: MTPTransformer) -> Copying:
    """Both scores of every head to the unembedding, and of every trunk head through every head of the future heads."""
    w = head_weights(model)
    direct, through = _eigenvalues(w)
    top1 = [
        top1_on_diagonal(w.W_E @ W_V, W_O @ w.W_Us[w.unembedding_of(head)])
        for head, W_V, W_O in zip(w.heads, w.W_V, w.W_O, strict=True)
    ]
    return Copying(
        heads=w.heads, direct_eigenvalues=direct, direct_top1=np.array(top1), via=w.heads[w.n_trunk :],
        through_eigenvalues=through, through_top1=_through_top1(w, model.config.n_heads), chance_top1=1 / len(w.W_E),
    )  # fmt: skip


def eigenvalue_score(matrices: Float[Tensor, "n side side"]) -> Float[np.ndarray, " n"]:
    """Sum of Re(lambda) / sum of |lambda| of each matrix, in [-1, 1]; 0 where all are 0, NaN where an entry is not finite."""
    finite = matrices.isfinite().all(dim=(1, 2))
    safe = torch.where(finite[:, None, None], matrices, 0.0)
    values = torch.linalg.eigvals(safe.double().cpu())
    size = values.abs().sum(dim=1)
    score = values.real.sum(dim=1) / size.clamp(min=torch.finfo(size.dtype).tiny)
    return torch.where(finite.cpu(), score, torch.nan).numpy()


def top1_on_diagonal(left: Float[Tensor, "d_vocab inner"], right: Float[Tensor, "inner d_vocab"]) -> float:
    """Share of the rows of left @ right whose entry on the diagonal is larger than all others; NaN when it is not finite.

    Takes MOST_ENTRIES of the matrix at a time, and leaves out rows that have lost already.
    """
    own_V = (left * right.mT).sum(dim=1)
    if not own_V.isfinite().all():
        return float("nan")
    leading = torch.arange(len(left), device=left.device)
    start, columns = 0, FIRST_COLUMNS
    while start < len(left) and len(leading):
        stop = min(start + max(1, min(columns, MOST_ENTRIES // len(leading))), len(left))
        entries = left[leading] @ right[:, start:stop]
        here = (leading >= start) & (leading < stop)
        entries[here, leading[here] - start] = -torch.inf
        leading = leading[(entries < own_V[leading, None]).all(dim=1)]
        start, columns = stop, len(left)
    return len(leading) / len(left)


def _eigenvalues(w: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
    """`[head]` directly, and `[head, via]` with NaN for heads of the future heads."""
    number = np.array([w.unembedding_of(head) for head in w.heads])
    direct, through = np.zeros(len(number)), np.full((len(number), len(number)), np.nan)
    for which in set(number.tolist()):
        back_DD = w.W_Us[which] @ w.W_E
        own, via = (number == which).nonzero()[0], (number[w.n_trunk :] == which).nonzero()[0] + w.n_trunk
        direct[own] = eigenvalue_score(w.W_O[own] @ back_DD @ w.W_V[own])
        for a in range(w.n_trunk):
            through[a, via] = eigenvalue_score((w.W_O[via] @ (back_DD @ w.W_V[a])) @ (w.W_O[a] @ w.W_V[via]))
    return direct, through[:, w.n_trunk :]


def _through_top1(w: HeadWeights, n_heads: int) -> np.ndarray:
    """`[head, via]`, one future head after another, so that no more than its heads' unembedded outputs are in memory."""
    through = np.full((len(w.heads), len(w.heads) - w.n_trunk), np.nan)
    for first in range(w.n_trunk, len(w.heads), n_heads):
        W_V = w.W_V[first : first + n_heads]
        out_FEV = w.W_O[first : first + n_heads] @ w.W_Us[w.unembedding_of(w.heads[first])]
        for a in range(w.n_trunk):
            left_VE, middle_FEE = w.W_E @ w.W_V[a], w.W_O[a] @ W_V
            column = first - w.n_trunk
            through[a, column : column + n_heads] = [
                top1_on_diagonal(left_VE, middle @ out) for middle, out in zip(middle_FEE, out_FEV, strict=True)
            ]
    return through
