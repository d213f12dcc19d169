"""From logits to a distribution, and from a distribution and a uniform number to a token.

Drawing takes its randomness as numbers, so that a draw is a function: same numbers, same tokens.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from playground.generation.config import Sampling


def distribution(logits: Float[Tensor, "*rest d_vocab"], sampling: Sampling) -> Float[Tensor, "*rest d_vocab"]:
    """The probabilities that tokens are drawn with: temperature, then top-k, then top-p, then scaled to sum to one.

    Of equally probable tokens at the edge of top-k all stay. Greedy: all on the most probable token.
    """
    if sampling.temperature is None:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # small ones would overflow otherwise
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
    """A token per distribution, by its cumulative sum and a number from [0, 1). Never one of probability zero.

    `probability` need not sum to one; it is drawn from in proportion.

    >>> draw(torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.6])).tolist()
    [2]
    """
    cumulative = probability.double().cumsum(dim=-1)
    total = cumulative[..., -1:]
    target = uniform.to(cumulative.dtype)[..., None] * total
    index = torch.searchsorted(cumulative, target, right=True)[..., 0]
    last = (cumulative < total).sum(dim=-1)  # the last token of any probability: rounding may not go past it
    return torch.minimum(index, last)
