"""Copying: whether a head raises the logit of the token that it attends to.

Row a of a head's whole OV circuit, W_E W_V W_O W_U, is the effect of attending to token a on the logit of every token (Elhage
et al. 2021, "A mathematical framework for transformer circuits"). Two scores of such a d_vocab x d_vocab matrix:

- eigenvalues: sum of Re(lambda) / sum of |lambda|. Copying shows as positive eigenvalues: sets of tokens that raise their own
  logits. 1 is pure copying, -1 pure suppression; the eigenvalues of a random head lie all around the circle, with a score near
  0. A shift of all logits by one amount, which the softmax ignores, adds one more eigenvalue.
- top-1: the share of tokens for which the largest entry of their row is their own; a random head reaches 1 / d_vocab.

Chance scores can exceed 0 and 1 / d_vocab: a circuit has few eigenvalues, which may be positive by chance. So every score has a
null band: the 99th percentile (playground/probes/null_band.py) of the score with the tokens of the unembedding permuted, by the
same permutations for all heads. A permutation keeps the singular values of both halves of the circuit, W_E W_V and W_O W_U, and
the tokens whose logits rise for many source tokens, and destroys the relation between source and output tokens.

The matrix has rank d_head. Its nonzero eigenvalues are those of the d_head x d_head matrix W_O W_U W_E W_V (XY and YX share
them), so it is never built for them; for top-1 only the largest entry of each row is kept.

The output of a trunk head passes a future head's layer before the unembedding. So every score belongs to a path: `direct` skips
all later layers through the residual stream, `through` passes one attention head of a future head, W_E OV_a OV_b W_U. MLPs are
ignored; norms are folded into the weights (playground/probes/weights.py). With replicated unembeddings a path ends at the one
of its future head's offset, or of offset 1 if it has no future head. playground/probes/through_layers.py computes a path
through the complete later layers.

Dimension letters: A trunk head, D d_model, E d_head, V d_vocab, F head of a future head, N draw.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.figures.probe_maps import copying_figure
from playground.model.transformer import MTPTransformer
from playground.probes.null_band import DRAWS, band_of
from playground.probes.probe import Probe, of_weights
from playground.probes.weights import HeadWeights, head_weights
from playground.results import Copying
from tasks.base import seeded_generator

MOST_ENTRIES = 1 << 22
"""Entries of a circuit that are in memory at a time."""
SEED = 20211223


@torch.no_grad()
def copying(model: MTPTransformer, generator: torch.Generator | None = None) -> Copying:
    """Both scores of every head to the unembedding, and of every trunk head through every attention head of the future heads.

    `generator` (on the CPU) draws the permutations of the null bands; None: a fixed seed.
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
    """Column of the largest entry in each row of left @ right, -1 where two are equally large; None if an entry is not finite.

    Computes MOST_ENTRIES of the matrix at a time.
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
    """For each order the share of rows i of left @ right whose largest entry is in column order[i]; NaN if not finite.

    The identity gives the top-1 score, a permutation one draw of its null distribution.
    """
    columns_V = largest_columns(left, right)
    if columns_V is None:
        return np.full(len(orders), np.nan)
    return (columns_V.cpu() == orders).double().mean(dim=1).numpy()


def _eigenvalues(w: HeadWeights, orders: Int[Tensor, "draw d_vocab"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalue scores for each order of the outputs: `[draw, head]` direct; `[draw, head, via]`, NaN for future heads."""
    d_model, d_vocab = w.W_U.shape
    parts = [_in_orders(w, part) for part in orders.split(max(1, MOST_ENTRIES // (d_model * d_vocab)))]
    return np.concatenate([direct for direct, _ in parts]), np.concatenate([through for _, through in parts])


def _in_orders(w: HeadWeights, orders: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """`_eigenvalues` for so few orders that their permuted [d_model, d_model] products fit in memory."""
    number = np.array([w.unembedding_of(head) for head in w.heads])
    direct = np.zeros((len(orders), len(number)))
    through = np.full((len(orders), len(number), len(number)), np.nan)
    for which in set(number.tolist()):
        # W_U with permuted columns times W_E: each circuit's nonzero eigenvalues are those of W_O W_U W_E W_V, d_head x d_head.
        back_NDD = w.W_Us[which][:, orders.to(w.W_E.device)].movedim(1, 0) @ w.W_E
        own, via = (number == which).nonzero()[0], (number[w.n_trunk :] == which).nonzero()[0] + w.n_trunk
        direct_NFEE = w.W_O[own] @ back_NDD[:, None] @ w.W_V[own]
        direct[:, own] = eigenvalue_score(direct_NFEE.flatten(0, 1)).reshape(direct_NFEE.shape[:2])
        for a in range(w.n_trunk):
            through_NFEE = w.W_O[via] @ (back_NDD @ w.W_V[a])[:, None] @ (w.W_O[a] @ w.W_V[via])
            through[:, a, via] = eigenvalue_score(through_NFEE.flatten(0, 1)).reshape(through_NFEE.shape[:2])
    return direct, through[:, :, w.n_trunk :]


def _direct_top1(w: HeadWeights, orders: Tensor) -> np.ndarray:
    """Top-1 scores `[draw, head]` of the direct paths."""
    found = [
        top1_scores(w.W_E @ W_V, W_O @ w.W_Us[w.unembedding_of(head)], orders)
        for head, W_V, W_O in zip(w.heads, w.W_V, w.W_O, strict=True)
    ]
    return np.array(found).reshape(-1, len(orders)).T


def _through_top1(w: HeadWeights, n_heads: int, orders: Tensor) -> np.ndarray:
    """Top-1 scores `[draw, head, via]`; one future head at a time, to hold the unembedded outputs of its heads alone."""
    through = np.full((len(orders), len(w.heads), len(w.heads) - w.n_trunk), np.nan)
    for first in range(w.n_trunk, len(w.heads), n_heads):
        W_V = w.W_V[first : first + n_heads]
        out_FEV = w.W_O[first : first + n_heads] @ w.W_Us[w.unembedding_of(w.heads[first])]
        for a in range(w.n_trunk):
            left_VE, middle_FEE = w.W_E @ w.W_V[a], w.W_O[a] @ W_V
            for f, (middle, out) in enumerate(zip(middle_FEE, out_FEV, strict=True)):
                through[:, a, first - w.n_trunk + f] = top1_scores(left_VE, middle @ out, orders)
    return through


PROBE = Probe(
    name="copying",
    summary="Whether each head's OV circuit copies, by eigenvalues and top-1, directly and through the future heads.",
    result=Copying,
    make=of_weights(copying),
    figure=copying_figure,
)
