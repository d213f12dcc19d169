"""The types of future heads (Gloeckle et al. 2024, 2404.19737, appendix B, and others): modules, and the path of each offset.

| type          | module of offset 1 | of offset k >= 2                     | reads                                            |
|---------------|--------------------|--------------------------------------|--------------------------------------------------|
| independent   | layer              | layer                                | the trunk's output z                             |
| linear        | d_model x d_model  | d_model x d_model                    | z                                                |
| causal        | layer              | layer                                | output of head k - 1 (head 1 reads z)            |
| anticausal    | layer              | layer                                | output of head k + 1 (head n reads z)            |
| sequential    | layer              | projection, then a layer             | output of head k - 1, and token x_{t+k-1}        |
| hydra         | layer              | gated MLP                            | output of head k - 1, and token x_{t+k-1}        |
| medusa_linear | layer              | d_model x d_model                    | output of head 1                                 |
| medusa_mlp    | layer              | d_model x d_model and SiLU           | output of head 1                                 |

Head k is the future head of offset k; head 1 reads z unless the table says otherwise. `sequential` is from DeepSeek-V3
(2412.19437, section 2.2), `hydra` after Ankner et al. 2024 (2402.05109), `medusa_*` after Cai et al. 2024 (2401.10774).
"Layer" means a whole transformer layer with attention; the other modules have no attention heads.
"""

from typing import Literal

FutureHeads = Literal[
    "independent", "linear", "causal", "anticausal", "sequential", "hydra", "medusa_linear", "medusa_mlp"
]


def future_head_paths(kind: FutureHeads, n_future: int) -> tuple[tuple[int, ...], ...]:
    """For each offset, the indices of the future heads that it runs through in order of execution; its own is the last.

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
    """True if the future head of this index is a whole layer, with attention."""
    return kind != "linear" and (index == 0 or not kind.startswith(("hydra", "medusa")))


def reads_tokens(kind: FutureHeads) -> bool:
    """True if future heads from offset 2 on also read the token x_{t+k-1}, so that their drafts must be made in sequence."""
    return kind in ("sequential", "hydra")
