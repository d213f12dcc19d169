"""Whole circuits, token by token (Elhage et al. 2021, "A mathematical framework for transformer circuits").

With the folded weights of playground/probes/weights.py, OV_h = W_V W_O of head h, and [..] for the product of the OV of the
heads of a path, from the embedding upwards:

    OV circuit:  W_E [OV_1 .. OV_m] W_U                                effect of attending to a token on every logit
    QK circuit:  W_E [query path] W_Q R W_K^T [key path]^T W_E^T / sqrt(d_head)    score of each key token for each query token

Consider an induction head in future head 1 that reads a previous-token head blocks.0.0 through its keys. With the key path
(blocks.0.0,) its score is highest at the position whose PREVIOUS token is the query token: the largest entry of each row is on
the diagonal. R rotates queries by the angle of rotary positions `distance` apart; without rotary positions it is the identity.

Both circuits are linear: they leave out the scale of norms, MLPs, and everything else in the residual stream, including
position embeddings.

Dimension letters: N chosen tokens, D d_model, E d_head, V d_vocab.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.model.layers import rotate
from playground.model.transformer import MTPTransformer
from playground.probes.copying import eigenvalue_score
from playground.probes.weights import HeadWeights, check_path, head_weights
from playground.results import Head, TokenCircuit

MOST_TOKENS = 8192
"""Most tokens: a matrix of this many takes half a gigabyte."""


@torch.no_grad()
def ov_circuit(model: MTPTransformer, path: Sequence[Head], *, tokens: Sequence[int] | None = None) -> TokenCircuit:
    """Effect of attending to each token on every logit, along embed -> OV of each head of `path` in turn -> unembed.

    `(trunk head,)` is the direct path, `(trunk head, head of a future head)` the path through a future head; a path without
    heads is embed -> unembed. `tokens` restricts sources and outputs to these, in this order. Entries are logits, up to the
    scales of the norms. A replicated unembedding is that of the last head's own offset; for a trunk head that of offset 1.

    Raises ValueError for an unknown head, for heads that are not in the order of the layers, for an unknown or repeated token,
    and for more than MOST_TOKENS tokens.
    """
    chosen = choose_tokens(model, tokens, MOST_TOKENS)
    check_path(model, path)
    w = head_weights(model, path)
    left, right = w.W_E[chosen], w.W_Us[w.unembedding_of(path[-1]) if path else 0][:, chosen]
    if path:
        left, right = _write(w, left, path[:-1]) @ w.W_V[-1], w.W_O[-1] @ right
    return _product(" -> ".join(("embed", *(f"{head} OV" for head in path), "unembed")), left, right)


@torch.no_grad()
def qk_circuit(
    model: MTPTransformer,
    head: Head,
    *,
    key_path: Sequence[Head] = (),
    query_path: Sequence[Head] = (),
    distance: int = 0,
    tokens: Sequence[int] | None = None,
) -> TokenCircuit:
    """Attention score of `head`, before the softmax, for each query token (rows) and key token (columns).

    `key_path` and `query_path` are the earlier heads whose OV carries the token into the key or the query; if empty, the key or
    query reads the embedding itself. The key is `distance` positions before the query. `tokens` restricts both to these, in
    this order. Scores are exact up to the scales of the norms: one factor per query and one per key.

    Raises ValueError for an unknown head, for heads that are not in the order of the layers, for an unknown or repeated token,
    for more than MOST_TOKENS tokens, for a distance outside the context, and for one above 0 where positions are not rotary.
    """
    chosen = choose_tokens(model, tokens, MOST_TOKENS)
    check_path(model, (*key_path, head))
    check_path(model, (*query_path, head))
    w = head_weights(model, (*key_path, *query_path, head))
    embedded = w.W_E[chosen]
    keys_NE = _write(w, embedded, key_path) @ w.W_K[-1]
    queries_NE = _turn(model, _write(w, embedded, query_path) @ w.W_Q[-1], distance)
    ways = (" -> ".join(("embed", *(f"{earlier} OV" for earlier in path))) for path in (query_path, key_path))
    name = f"{head} QK: " + ", ".join(f"{side} {way}" for side, way in zip(("query", "key"), ways, strict=True))
    name += f", {distance} apart" if distance else ""
    return _product(name, queries_NE / math.sqrt(model.config.d_head), keys_NE.mT)


def choose_tokens(model: MTPTransformer, tokens: Sequence[int] | None, most: int) -> Int[Tensor, " chosen"]:
    """The tokens of a circuit, on the model's device; None: all. Raises ValueError for unknown, repeated or too many tokens."""
    d_vocab = len(model.W_E)
    chosen = range(d_vocab) if tokens is None else tokens
    if not 0 < len(chosen) <= most:
        raise ValueError(
            f"a circuit of {len(chosen)} tokens; write tokens=... with 1 to {most} of them, "
            "or use copying(model), which needs no whole matrix"
        )
    outside = [token for token in chosen if not 0 <= token < d_vocab]
    if outside:
        raise ValueError(f"unknown token {outside[0]}; write tokens from 0 to {d_vocab - 1}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"tokens name one token twice; write each once: {sorted(set(chosen))}")
    return torch.tensor(chosen, device=model.W_E.device)


def token_circuit(
    name: str, matrix: Float[Tensor, "n n"], small: Float[Tensor, "inner inner"] | None = None
) -> TokenCircuit:
    """A matrix `[n, n]` with its scores. `small`, if given, is a smaller matrix with the same nonzero eigenvalues."""
    others = matrix.clone().fill_diagonal_(-torch.inf)
    top1 = (others < matrix.diagonal()[:, None]).all(dim=1).double().mean().item()
    score = eigenvalue_score((matrix if small is None else small)[None])[0]
    return TokenCircuit(name=name, matrix=matrix.double().cpu().numpy(), top1=top1, eigenvalues=float(score))


def _write(w: HeadWeights, vectors_ND: Tensor, path: Sequence[Head]) -> Tensor:
    """The vectors after the OV matrix of each head in turn."""
    for head in path:
        index = w.index(head)
        vectors_ND = vectors_ND @ w.W_V[index] @ w.W_O[index]
    return vectors_ND


def _turn(model: MTPTransformer, queries_NE: Tensor, distance: int) -> Tensor:
    """Queries rotated as if they were `distance` positions after the keys. Raises ValueError for an impossible distance."""
    if not 0 <= distance < model.n_ctx:
        raise ValueError(
            f"distance is {distance}; write 0 to {model.n_ctx - 1}, how far a query may stand after its key"
        )
    if not distance:
        return queries_NE
    if model.config.positions != "rotary":
        raise ValueError(
            f"distance is {distance}, and positions are 'standard', which token circuits leave out; write distance=0"
        )
    cos, sin = (part[-1:] for part in model.rotary(distance + 1))
    return rotate(queries_NE[None, :, None], (cos, sin))[0, :, 0]


def _product(name: str, left: Float[Tensor, "n inner"], right: Float[Tensor, "inner n"]) -> TokenCircuit:
    """The circuit left @ right; left @ right and right @ left share their nonzero eigenvalues, so the smaller one is used."""
    return token_circuit(name, left @ right, right @ left if len(right) < len(left) else None)
