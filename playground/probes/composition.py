"""Q-, K- and V-composition between attention heads (Elhage et al. 2021, "A mathematical framework for transformer circuits").

How much of what an earlier head a writes does a later head b read, as its query, its key or its value: the Frobenius norm of
the product of the two circuits over the product of their norms, with OV = W_V W_O and QK = W_Q W_K^T,

    Q: |OV_a QK_b| / (|OV_a| |QK_b|)     K: |OV_a QK_b^T| / (|OV_a| |QK_b|)     V: |OV_a OV_b| / (|OV_a| |OV_b|)

MINUS what random matrices of the same sizes give, which is about 1/sqrt(d_model) and not 0. An induction head K-composes with
a previous-token head. Norms are folded in (playground/probes/weights.py); MLPs between the two heads are passed by.

Dimension letters: A sender, B receiver, D d_model, E d_head.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.config import ModelConfig
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes.repeated import RepeatedProbe, replicas_of
from playground.probes.weights import attention_weights
from playground.results import Composition, Head, heads_of
from tasks.base import seeded_generator

DRAWS = 200
SEED = 20211222
PAIRS_SIZE = 2**21
"""Numbers of the d_head x d_head matrices of pairs that are made at a time."""


def composition(model: MTPTransformer) -> Composition:
    """All three scores of every trunk head with every head of a later layer; 0 minus random for heads that do nothing.

    Where future heads read one another, heads of those that are read are senders, too.
    """
    return CompositionProbe()(model)


class CompositionProbe(RepeatedProbe[Composition]):
    """The same as a probe that is measured many times."""

    def __init__(self) -> None:
        self._senders: dict[tuple[ModelConfig, torch.device], Tensor] = {}

    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica qkv sender receiver"]:
        """What is read of what is written, random matrices included."""
        return torch.stack([_shares(model, self._sending(model)) for model in replicas_of(models)])

    def result(self, model: MTPTransformer, figures: Float[np.ndarray, "qkv sender receiver"]) -> Composition:
        """The scores by name."""
        receivers, sends, later = _order(model.config)
        random, null = random_values(model.config.d_model, model.config.d_head)
        tables = {
            kind: np.where(later, share - expected, np.nan)
            for kind, share, expected in zip("qkv", figures, random, strict=True)
        }
        return Composition(
            senders=tuple(receivers[index] for index in sends), receivers=receivers, random=random, null=null, **tables
        )

    def _sending(self, model: MTPTransformer) -> Int[Tensor, " sender"]:
        """Numbers of the heads that write for others, on the model's device."""
        kind = (model.config, model.W_E.device)
        if kind not in self._senders:
            self._senders[kind] = torch.tensor(_order(model.config)[1], dtype=torch.long, device=model.W_E.device)
        return self._senders[kind]


@lru_cache(maxsize=16)
def _order(config: ModelConfig) -> tuple[tuple[Head, ...], tuple[int, ...], np.ndarray]:
    """All heads, which of them write for others, by their number, and of each of those which heads come after it."""
    heads = heads_of(config.attention_layers, config.n_heads)
    after = np.array([[receiver.comes_after(sender, config.paths) for receiver in heads] for sender in heads])
    in_trunk = np.array([head.layer.startswith("blocks.") for head in heads])
    sends = np.flatnonzero(after.any(axis=1) | in_trunk)
    return heads, tuple(sends.tolist()), after[sends]


def _shares(model: MTPTransformer, senders: Int[Tensor, " sender"]) -> Float[Tensor, "qkv sender receiver"]:
    w = attention_weights(model)
    W_V, W_O = w.W_V[senders], w.W_O[senders]
    sender_norm = product_norm(W_V, W_O.mT)
    shares: list[Tensor] = []
    for reads, other in ((w.W_Q, w.W_K), (w.W_K, w.W_Q), (w.W_V, w.W_O.mT)):
        size = sender_norm[:, None] * product_norm(reads, other)
        shares.append(path_norms(W_V, W_O, reads, other) / size.clamp(min=torch.finfo(size.dtype).tiny))
    return torch.stack(shares)


def product_norm(left: Float[Tensor, "n d e"], right: Float[Tensor, "n d e"]) -> Float[Tensor, " n"]:
    """Frobenius norms of left @ right^T, by the small Gram matrices."""
    return ((left.mT @ left) * (right.mT @ right)).sum(dim=(1, 2)).clamp(min=0).sqrt()


def path_norms(
    W_V: Float[Tensor, "sender d e"],
    W_O: Float[Tensor, "sender e d"],
    reads: Float[Tensor, "receiver d e"],
    other: Float[Tensor, "receiver d e"],
) -> Float[Tensor, "sender receiver"]:
    """Frobenius norms of W_V W_O reads other^T for every sender and receiver: no matrix larger than d_model x d_head.

    With M = W_O reads of a pair, the square is the sum of (gram_V M) * (M gram_other).
    """
    gram_V, gram_other = W_V.mT @ W_V, other.mT @ other
    at_a_time = max(1, PAIRS_SIZE // max(1, gram_other.numel()))
    squares = []
    for W_O_AED, gram_AEE in zip(W_O.split(at_a_time), gram_V.split(at_a_time), strict=True):
        middle = W_O_AED.flatten(0, 1) @ reads  # [receiver, sender d_head, d_head]
        right = (middle @ gram_other).unflatten(1, gram_AEE.shape[:2])
        left = torch.einsum("aef,bafg->baeg", gram_AEE, middle.unflatten(1, gram_AEE.shape[:2]))
        squares.append((left * right).sum(dim=(2, 3)).mT)
    return torch.cat(squares).clamp(min=0).sqrt() if len(W_O) else reads.new_zeros(0, len(reads))


@lru_cache(maxsize=16)
def random_values(d_model: int, d_head: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean of random Gaussian heads for q, k and v, and the 99th percentile minus that mean.

    Each of the three is the norm of a product of four independent matrices of the same shapes, so that one draw serves all.
    """
    generator = seeded_generator(SEED)
    values = []
    for _ in range(DRAWS):
        W_V, W_O, reads, other = torch.randn(4, 1, d_model, d_head, generator=generator, dtype=torch.float64).unbind()
        size = product_norm(W_V, W_O) * product_norm(reads, other)
        values.append(path_norms(W_V, W_O.mT, reads, other)[0] / size)
    drawn = torch.cat(values)
    mean = drawn.mean().item()
    return (mean,) * 3, (drawn.quantile(0.99).item() - mean,) * 3
