"""Q-, K- and V-composition between attention heads (Elhage et al. 2021, "A mathematical framework for transformer circuits").

The score of a pair says how much a later head b reads, as its query, key or value, of what an earlier head a writes: the
Frobenius norm of the product of the two circuits over the product of their norms, with OV = W_V W_O and QK = W_Q W_K^T,

    Q: |OV_a QK_b| / (|OV_a| |QK_b|)     K: |OV_a QK_b^T| / (|OV_a| |QK_b|)     V: |OV_a OV_b| / (|OV_a| |OV_b|)

MINUS the score of random matrices of the same sizes, which is about 1/sqrt(d_model) and not 0. An induction head K-composes
with a previous-token head. Norms are folded into the weights (playground/probes/weights.py); MLPs between the two heads are
ignored.

The spread of chance scores depends on the singular values: heads with few large ones reach higher scores by chance. The null
distribution of a pair therefore uses its own two matrices after a random rotation of the residual stream between them, which
keeps their singular values s and t and destroys the alignment. With G the d_head x d_head corner of a random orthogonal
d_model x d_model matrix,

    score^2 = sum over e, f of s_e^2 G_ef^2 t_f^2 / (sum of s_e^2 * sum of t_f^2)

QK and its transpose have the same singular values, and so Q and K the same null band: the 99th percentile as
playground/probes/null_band.py takes it. The null band of a receiver's strongest sender is that of the largest score over all
senders, each with rotations of its own.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.config import ModelConfig
from playground.figures.probe_maps import composition_maps_figure
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes.null_band import DRAWS, band_of
from playground.probes.probe import Probe
from playground.probes.repeated import RepeatedProbe, replicas_of
from playground.probes.weights import AttentionWeights, attention_weights
from playground.results import Composition, Head, heads_of
from tasks.base import seeded_generator

SEED = 20211222
RANDOM_PAIRS = 200
"""Number of random matrix pairs over which the score of random matrices is averaged."""
PAIRS_SIZE = 2**21
"""Entries of the d_head x d_head matrices of pairs that are computed at a time; bounds the memory."""


def composition(model: MTPTransformer, generator: torch.Generator | None = None) -> Composition:
    """Q-, K- and V-composition of every trunk head with every head of a later layer, with null bands.

    Where a future head reads another one, the heads of the one that is read are senders too. A head with zero weights scores 0
    minus the random value. `generator` (on the CPU) draws the rotations of the null bands; None: a fixed seed.
    """
    return CompositionProbe(generator)(model)


class CompositionProbe(RepeatedProbe[Composition]):
    """`composition` as a probe that is measured many times, with the same rotations for all models of one size."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = seeded_generator(SEED) if generator is None else generator
        self._senders: dict[tuple[ModelConfig, torch.device], Tensor] = {}
        self._corners: dict[tuple[int, int, int], Float[np.ndarray, "sender draw e f"]] = {}

    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica figure"]:
        """The scores of all pairs (random value not subtracted), then the Gram matrices of all heads' weights, in one vector.

        `result` computes singular values from the Gram matrices on the host: on the device the decomposition would make the
        host wait.
        """
        figures = []
        for model in replicas_of(models):
            weights = attention_weights(model)
            figures.append(torch.cat([_shares(weights, self._sending(model)).flatten(), _grams(weights).flatten()]))
        return torch.stack(figures)

    def result(self, model: MTPTransformer, figures: Float[np.ndarray, " figure"]) -> Composition:
        """Scores minus the random value, and null bands, as named fields."""
        receivers, sends, later = _order(model.config)
        side, sizes = model.config.d_head, (len(sends), len(receivers))
        shares, grams = np.split(figures, [3 * later.size])
        random = random_value(model.config.d_model, side)
        spectra = [squared_spectra(*pair) for pair in grams.reshape(2, 2, len(receivers), side, side)]
        corners = self._corners_of(model.config.d_model, side, len(sends))
        qk, ov = (rotated_bands(spectra[1][list(sends)], own, corners, later) for own in spectra)
        q, k, v = (np.where(later, share - random, np.nan) for share in shares.reshape(3, *sizes))
        return Composition(
            senders=tuple(receivers[index] for index in sends),
            receivers=receivers,
            q=q,
            k=k,
            v=v,
            random=(random,) * 3,
            null_qk=qk[0] - random,
            strongest_qk=qk[1] - random,
            null_v=ov[0] - random,
            strongest_v=ov[1] - random,
        )

    def _corners_of(self, d_model: int, d_head: int, senders: int) -> Float[np.ndarray, "sender draw e f"]:
        """The corners for a size, drawn once from a copy of the generator: no size depends on those drawn before it."""
        size = (d_model, d_head, senders)
        if size not in self._corners:
            self._corners[size] = squared_corners(*size, self._generator.clone_state())
        return self._corners[size]

    def _sending(self, model: MTPTransformer) -> Int[Tensor, " sender"]:
        """Indices of the heads that are senders, on the model's device."""
        kind = (model.config, model.W_E.device)
        if kind not in self._senders:
            self._senders[kind] = torch.tensor(_order(model.config)[1], dtype=torch.long, device=model.W_E.device)
        return self._senders[kind]


@lru_cache(maxsize=16)
def _order(config: ModelConfig) -> tuple[tuple[Head, ...], tuple[int, ...], np.ndarray]:
    """All heads; the indices of those that are senders; and `[sender, head]`: whether the head comes after the sender."""
    heads = heads_of(config.attention_layers, config.n_heads)
    after = np.array([[receiver.comes_after(sender, config.paths) for receiver in heads] for sender in heads])
    in_trunk = np.array([head.layer.startswith("blocks.") for head in heads])
    sends = np.flatnonzero(after.any(axis=1) | in_trunk)
    return heads, tuple(sends.tolist()), after[sends]


def _shares(w: AttentionWeights, senders: Int[Tensor, " sender"]) -> Float[Tensor, "qkv sender receiver"]:
    W_V, W_O = w.W_V[senders], w.W_O[senders]
    # Each circuit of the receiver is reads @ other^T: QK for Q, its transpose for K, OV for V. `tiny` gives zero heads score 0.
    sender_norm = product_norm(W_V, W_O.mT)
    shares: list[Tensor] = []
    for reads, other in ((w.W_Q, w.W_K), (w.W_K, w.W_Q), (w.W_V, w.W_O.mT)):
        size = sender_norm[:, None] * product_norm(reads, other)
        shares.append(path_norms(W_V, W_O, reads, other) / size.clamp(min=torch.finfo(size.dtype).tiny))
    return torch.stack(shares)


def _grams(w: AttentionWeights) -> Float[Tensor, "qk_ov left_right head d_head d_head"]:
    """Gram matrices W^T W of the two factors of QK (W_Q, W_K), and of the two of OV (W_V, W_O^T)."""
    products = ((w.W_Q, w.W_K), (w.W_V, w.W_O.mT))
    return torch.stack([torch.stack([matrix.mT @ matrix for matrix in pair]) for pair in products])


def product_norm(left: Float[Tensor, "n d e"], right: Float[Tensor, "n d e"]) -> Float[Tensor, " n"]:
    """Frobenius norms of left @ right^T from the d_head x d_head Gram matrices: |X Y^T|^2 = sum of (X^T X) * (Y^T Y)."""
    return ((left.mT @ left) * (right.mT @ right)).sum(dim=(1, 2)).clamp(min=0).sqrt()


def path_norms(
    W_V: Float[Tensor, "sender d e"],
    W_O: Float[Tensor, "sender e d"],
    reads: Float[Tensor, "receiver d e"],
    other: Float[Tensor, "receiver d e"],
) -> Float[Tensor, "sender receiver"]:
    """Frobenius norms of W_V W_O reads other^T for every sender and receiver, without a d_model x d_model matrix.

    For a pair with M = W_O reads, the squared norm is the sum over entries of (gram_V M) * (M gram_other).
    """
    gram_V, gram_other = W_V.mT @ W_V, other.mT @ other
    at_a_time = max(1, PAIRS_SIZE // max(1, gram_other.numel()))
    squares = []
    for W_O_AED, gram_AEE in zip(W_O.split(at_a_time), gram_V.split(at_a_time), strict=True):
        middle = W_O_AED.flatten(0, 1) @ reads  # [receiver, sender d_head, d_head]
        right = (middle @ gram_other).unflatten(1, gram_AEE.shape[:2])
        # gram_V M of every pair, the first factor of the sum in the docstring; a sender, b receiver, gram_V (e, f), M (f, g)
        left = torch.einsum("aef,bafg->baeg", gram_AEE, middle.unflatten(1, gram_AEE.shape[:2]))
        squares.append((left * right).sum(dim=(2, 3)).mT)
    return torch.cat(squares).clamp(min=0).sqrt() if len(W_O) else reads.new_zeros(0, len(reads))


def squared_spectra(
    left: Float[np.ndarray, "head d_head d_head"], right: Float[np.ndarray, "head d_head d_head"]
) -> Float[np.ndarray, "head d_head"]:
    """Squared singular values of X Y^T over their sum, from the Gram matrices X^T X and Y^T Y.

    All 0 for a zero product, and NaN where an entry is not finite.
    """
    finite_H = np.asarray(np.isfinite(np.stack([left, right])).all(axis=(0, 2, 3)))
    safe_HEE, other_HEE = (np.where(finite_H[:, None, None], gram, 0.0) for gram in (left, right))
    values_HE, vectors_HEE = np.linalg.eigh(safe_HEE)
    root_HEE = vectors_HEE * np.sqrt(values_HE.clip(min=0))[:, None]
    found_HE = np.linalg.eigvalsh(root_HEE.swapaxes(1, 2) @ other_HEE @ root_HEE).clip(min=0)
    sums_H1 = found_HE.sum(axis=1, keepdims=True)
    shares_HE = found_HE / np.where(sums_H1 > 0, sums_H1, 1.0)
    return np.where(finite_H[:, None], shares_HE, np.nan)


def squared_corners(
    d_model: int, d_head: int, senders: int, generator: torch.Generator
) -> Float[np.ndarray, "sender draw d_head d_head"]:
    """Squared entries of the d_head x d_head corners of random orthogonal matrices, DRAWS per sender.

    For a random Gaussian X [d_model, d_head] and R^T R = X^T X, X R^-1 is an orthonormal basis (Cholesky QR); its first d_head
    rows are the corner.
    """
    corners = np.empty((senders, DRAWS, d_head, d_head), dtype=np.float32)
    for corner_NEF in corners:
        X_NDE = torch.randn(DRAWS, d_model, d_head, generator=generator).double()
        R_NEE = torch.linalg.cholesky(X_NDE.mT @ X_NDE, upper=True)
        basis_NEF = torch.linalg.solve_triangular(R_NEE, X_NDE[:, :d_head], upper=True, left=False)
        corner_NEF[:] = basis_NEF.square().numpy()
    return corners


def rotated_bands(
    senders: Float[np.ndarray, "sender d_head"],
    receivers: Float[np.ndarray, "receiver d_head"],
    corners: Float[np.ndarray, "sender draw d_head d_head"],
    later: Bool[np.ndarray, "sender receiver"],
) -> tuple[Float[np.ndarray, "sender receiver"], Float[np.ndarray, " receiver"]]:
    """Null bands of each pair, and of each receiver's strongest sender, from squared spectra; random value not subtracted.

    NaN for a pair whose receiver does not come after the sender, for a receiver without senders, and for weights that are not
    finite.
    """
    told_ANF = (senders[:, None, None].astype(np.float32) @ corners)[:, :, 0]
    squares_ANB = told_ANF @ receivers.T.astype(np.float32)
    # -1 stands for NaN until the end: np.partition, in band_of, sorts NaN above all numbers.
    squares_ANB = np.where(later[:, None] & np.isfinite(squares_ANB), squares_ANB, -1.0)
    largest_NB = squares_ANB.max(axis=0, initial=-1.0)
    pairs, strongest = band_of(squares_ANB, axis=1).astype(np.float64), band_of(largest_NB).astype(np.float64)
    return np.sqrt(np.where(pairs < 0, np.nan, pairs)), np.sqrt(np.where(strongest < 0, np.nan, strongest))


@lru_cache(maxsize=16)
def random_value(d_model: int, d_head: int) -> float:
    """Mean score of random Gaussian heads, for q, k and v alike.

    Each of the three scores is the norm of a product of four independent matrices of the same shapes, so one estimate serves
    all.
    """
    generator = seeded_generator(SEED)
    values = []
    for _ in range(RANDOM_PAIRS):
        W_V, W_O, reads, other = torch.randn(4, 1, d_model, d_head, generator=generator, dtype=torch.float64).unbind()
        size = product_norm(W_V, W_O) * product_norm(reads, other)
        values.append(path_norms(W_V, W_O.mT, reads, other)[0] / size)
    return torch.cat(values).mean().item()


PROBE = Probe(
    name="composition",
    summary="Q-, K- and V-composition of every trunk head with every later head, minus the random value.",
    result=Composition,
    make=lambda _task, _n_future: CompositionProbe(),
    figure=composition_maps_figure,
)
