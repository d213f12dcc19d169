"""What the tests of decoding share: the plainest decoder there is, trees, and models that are right as one wishes.

A counting model says behind token t that t + k follows k tokens on, or what a table says instead: its embedding is one-hot,
its layers write nothing, and each offset has an unembedding of its own. So it is known which drafts are accepted.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from playground.generation.tree import Tree, chain
from playground.model.transformer import MTPTransformer
from tests.cases import small_config, small_model

TREES = {
    "siblings": Tree(((0,), (1,), (2,))),
    "bushy": Tree(((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 1))),
    "depth first": Tree(((1,), (1, 0), (1, 0, 1), (0,), (0, 2), (0, 2, 0))),
    "no favourite": Tree(((1,), (1, 1))),
    "a chain as a tree": chain(3),
}
"""Of up to three candidates and three offsets."""
PROMPTS = [[1, 2, 3], [4], [0, 0, 2, 1, 3], [2, 4, 1, 0], [3, 3], [1, 4, 4, 1, 0, 2], [2]]
"""Seven rows of different lengths, tokens below 5."""
Says = Callable[[int, int], Sequence[int]]
"""From a token and an offset to the candidates that the offset has behind that token, the favourite first."""


def tiny_model(n_future: int, *, seed: int = 0, **options: Any) -> MTPTransformer:
    """Random weights, five tokens, one trunk layer and the future heads."""
    n_layers = n_future + 1 if options.get("future_heads") == "anticausal" else 2
    values = {"n_layers": n_layers, "control": "trunk", "d_vocab": 5, "n_ctx": 24} | options
    return small_model(seed, n_future=n_future, **values).eval()


def plainly(
    model: MTPTransformer, prompts: Sequence[Sequence[int]], count: int, stop: tuple[int, ...] = ()
) -> list[tuple[int, ...]]:
    """Greedy decoding by nothing but `model(tokens).argmax`, all rows at once; a full context loses its older half."""
    contexts, new = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    with torch.no_grad():
        while any(going := [len(row) < count and not set(row) & set(stop) for row in new]):
            for context in contexts:
                while len(context) > model.n_ctx:
                    del context[: max(1, model.n_ctx // 2)]
            said = behind(model, contexts, (1,))[:, 0].argmax(dim=-1).tolist()
            for row, token in enumerate(said):
                contexts[row].append(token)
                new[row] += [token] * going[row]
    return [tuple(row) for row in new]


def behind(model: MTPTransformer, rows: Sequence[Sequence[int]], offsets: Sequence[int], back: int = 1) -> Tensor:
    """`[row, offset, d_vocab]`: the model's logits at the `back`-th last token of each row."""
    length = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    last = torch.tensor([len(row) - back for row in rows])
    return model(tokens, offsets)[torch.arange(len(rows)), last]


def counting_model(says: Says, *, d_vocab: int = 11, **options: Any) -> MTPTransformer:
    """A counting model whose offsets from 2 on say what `says` says."""
    values = {"n_layers": 5, "n_future": 4, "control": "trunk", "n_ctx": 40} | options | {"unembedding": "replicated"}
    model = MTPTransformer(small_config(d_vocab=d_vocab, **values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".out." in name or "pos_embed" in name:
                parameter.zero_()
            elif name.endswith("project.weight"):
                parameter.copy_(torch.eye(*parameter.shape))
        model.embed.weight.copy_(torch.eye(d_vocab, model.config.d_model))
        for offset in range(1, model.n_future + 1):
            weight = model.unembed_of(offset).weight.zero_()
            for token in range(d_vocab):
                candidates = [(token + 1) % d_vocab] if offset == 1 else says(token, offset)
                for rank, candidate in enumerate(candidates):
                    weight[candidate % d_vocab, token] = 1 / (1 + rank)
    return model.eval()


def always(token: int, offset: int) -> Sequence[int]:
    """Drafts that are all right."""
    return [token + offset]


def never(token: int, offset: int) -> Sequence[int]:
    """Drafts that are all wrong, the second and third candidates too."""
    return [token + offset + 1, token + offset + 2, token + offset + 3]


def count_up(prompt: Sequence[int], count: int, d_vocab: int = 11) -> tuple[int, ...]:
    """What a counting model writes behind a prompt."""
    return tuple((prompt[-1] + step) % d_vocab for step in range(1, count + 1))


def sharpened(model: MTPTransformer, scale: float = 6.0) -> MTPTransformer:
    """The model with larger unembeddings, so that what it says is far from uniform, and offsets differ."""
    with torch.no_grad():
        for offset in range(1, model.n_future + 1 if model.more_unembeds else 2):
            model.unembed_of(offset).weight.mul_(scale)
    return model.eval()
