"""Distributions from logits, and tokens from a distribution and a uniform number.

The randomness is an argument, so a draw is a pure function: equal numbers give equal tokens.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.generation.config import Sampling


def distribution(logits: Float[Tensor, "*rest d_vocab"], sampling: Sampling) -> Float[Tensor, "*rest d_vocab"]:
    """Sampling probabilities: temperature, then top-k, then top-p, then normalised to sum to one.

    Tokens with a probability equal to that of the k-th all stay. Greedy: probability one for the most probable token.
    """
    if sampling.temperature is None:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # else small ones would overflow
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probability = logits.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        sorted_probability, order = probability.sort(dim=-1, descending=True)
        before = sorted_probability.cumsum(dim=-1) - sorted_probability
        kept = (before < sampling.top_p).scatter(-1, order, before < sampling.top_p)
        probability = probability * kept
        probability = probability / probability.sum(dim=-1, keepdim=True)
    return probability


def draw(probability: Float[Tensor, "*rest d_vocab"], uniform: Float[Tensor, "*rest"]) -> Int[Tensor, "*rest"]:
    """Draw one token per distribution by its cumulative sum and a number from [0, 1). Never a token of probability zero.

    `probability` need not sum to one; tokens are drawn in proportion to it.

    >>> draw(torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.6])).tolist()
    [2]
    """
    cumulative = probability.double().cumsum(dim=-1)
    total = cumulative[..., -1:]
    target = uniform.to(cumulative.dtype)[..., None] * total
    index = torch.searchsorted(cumulative, target, right=True)[..., 0]
    last = (cumulative < total).sum(dim=-1)  # last token with probability above zero; rounding must not go past it
    return torch.minimum(index, last)
