"""Q-, K- and V-composition between attention heads (Elhage et al. 2021, "A mathematical framework for transformer circuits").

How much of what an earlier head writes does a later head read, as its query, its key or its value: the Frobenius norm of
the product of the two circuits over the product of their norms, with OV = W_V W_O and QK = W_Q W_K^T,

    Q: |OV_a W_Q W_K^T| / (|OV_a| |QK_b|)      K: |OV_a W_K W_Q^T| / (|OV_a| |QK_b|)      V: |OV_a OV_b| / (|OV_a| |OV_b|)

MINUS what random matrices of the same sizes give, which is about 1/sqrt(d_model) and not 0. An induction head K-composes with
a previous-token head. Norms are folded in (playground/probes/weights.py); MLPs between the two heads are passed by.

Dimension letters: A sender, B receiver, D d_model, E d_head.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.weights import head_weights
from playground.results import Composition, Head
from tasks.base import seeded_generator

DRAWS = 200
SEED = 20211222


def composition(model: MTPTransformer) -> Composition:
    """All three scores of every trunk head with every head of a later layer."""
    w = head_weights(model)
    senders, receivers = w.heads[: w.n_trunk], w.heads
    d_model, d_head = w.W_V.shape[1:]
    random, null = _random_values(d_model, d_head)
    later = torch.tensor([[_after(receiver, sender) for receiver in receivers] for sender in senders])
    later = later.reshape(len(senders), len(receivers)).to(w.W_V.device)
    ov_norm = _norm(w.W_V, w.W_O.mT)
    pairs = {"q": (w.W_Q, w.W_K), "k": (w.W_K, w.W_Q), "v": (w.W_V, w.W_O.mT)}
    tables: dict[str, np.ndarray] = {}
    for (kind, (reads, other)), expected in zip(pairs.items(), random, strict=True):
        values = _product_norms(w.W_V[: w.n_trunk], w.W_O[: w.n_trunk], reads, other)
        values = values / (ov_norm[: w.n_trunk, None] * _norm(reads, other)) - expected
        tables[kind] = values.masked_fill(~later, torch.nan).cpu().numpy()
    return Composition(senders=senders, receivers=receivers, random=random, null=null, **tables)


def _after(receiver: Head, sender: Head) -> bool:
    """Whether a head comes after a trunk head; every future head does."""
    if receiver.layer.startswith("future_heads."):
        return True
    return int(receiver.layer.partition(".")[2]) > int(sender.layer.partition(".")[2])


def _norm(left: Float[Tensor, "n d e"], right: Float[Tensor, "n d e"]) -> Float[Tensor, " n"]:
    """Frobenius norms of left @ right^T, by the small Gram matrices."""
    return ((left.mT @ left) * (right.mT @ right)).sum(dim=(1, 2)).clamp(min=0).sqrt()


def _product_norms(W_V: Tensor, W_O: Tensor, reads: Tensor, other: Tensor) -> Float[Tensor, "sender receiver"]:
    """Frobenius norms of W_V W_O reads other^T for every sender and receiver: no matrix larger than d_model x d_head."""
    gram_V, gram_other = W_V.mT @ W_V, other.mT @ other
    rows = []
    for W_O_a, gram_a in zip(W_O, gram_V, strict=True):
        middle_BEE = W_O_a @ reads
        rows.append(((gram_a @ middle_BEE @ gram_other) * middle_BEE).sum(dim=(1, 2)))
    return torch.stack(rows).clamp(min=0).sqrt() if rows else reads.new_zeros(0, len(reads))


@lru_cache(maxsize=16)
def _random_values(d_model: int, d_head: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean of random Gaussian heads for q, k and v, and the 99th percentile minus that mean."""
    generator = seeded_generator(SEED)
    V1, O1, first, second = (
        torch.randn(DRAWS, d_model, d_head, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    # Q, K and V are products of four independent matrices of the same shapes, so that one draw serves all three.
    middle = O1.mT @ first
    product = (((V1.mT @ V1) @ middle @ (second.mT @ second)) * middle).sum(dim=(1, 2)).sqrt()
    values = product / (_norm(V1, O1) * _norm(first, second))
    mean = values.mean().item()
    return (mean,) * 3, (values.quantile(0.99).item() - mean,) * 3
