"""The types of future heads (Gloeckle et al. 2024, 2404.19737, appendix B, and others): which modules an offset runs through.

| type          | module of offset 1 | of offset k >= 2                     | reads                                            |
|---------------|--------------------|--------------------------------------|--------------------------------------------------|
| independent   | layer              | layer                                | the trunk's output z                             |
| linear        | d_model x d_model  | the same                             | z                                                |
| causal        | layer              | layer                                | the output of offset k - 1's (offset 1 reads z)  |
| anticausal    | layer              | layer                                | the output of offset k + 1's (offset n reads z)  |
| sequential    | layer              | layer behind a projection            | the output of offset k - 1's and token x_{t+k-1} |
| hydra         | layer              | gated MLP                            | the output of offset k - 1's and token x_{t+k-1} |
| medusa_linear | layer              | d_model x d_model                    | the output of offset 1's                         |
| medusa_mlp    | layer              | d_model x d_model and SiLU           | the output of offset 1's                         |

`sequential` is DeepSeek-V3's (2412.19437, section 2.2), `hydra` after Ankner et al. 2024 (2402.05109), `medusa_*`
after Cai et al. 2024 (2401.10774). What is called a layer
is a whole one, with attention; the others hold no attention head.
"""

from typing import Literal

FutureHeads = Literal[
    "independent", "linear", "causal", "anticausal", "sequential", "hydra", "medusa_linear", "medusa_mlp"
]


def future_head_paths(kind: FutureHeads, n_future: int) -> tuple[tuple[int, ...], ...]:
    """For each offset the indices of the future heads that it runs through, in that order; its own is the last.

    >>> future_head_paths("causal", 3), future_head_paths("anticausal", 3), future_head_paths("medusa_mlp", 3)
    (((0,), (0, 1), (0, 1, 2)), ((2, 1, 0), (2, 1), (2,)), ((0,), (0, 1), (0, 2)))
    """
    own = range(n_future)
    if kind in ("causal", "sequential", "hydra"):
        return tuple(tuple(range(index + 1)) for index in own)
    if kind == "anticausal":
        return tuple(tuple(range(n_future - 1, index - 1, -1)) for index in own)
    if kind in ("medusa_linear", "medusa_mlp"):
        return tuple((0, index) if index else (0,) for index in own)
    return tuple((index,) for index in own)


def is_layer(kind: FutureHeads, index: int) -> bool:
    """Whether the future head of this index is a whole layer, with attention."""
    return kind != "linear" and (index == 0 or not kind.startswith(("hydra", "medusa")))


def reads_tokens(kind: FutureHeads) -> bool:
    """Whether future heads from offset 2 on read the tokens between, and so draft one after another."""
    return kind in ("sequential", "hydra")
