"""What a drafter is given and what it returns. playground/generation/drafters.py has the drafters.

Dimension letters: B row, V d_vocab.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from playground.generation.cache import View
from playground.model.transformer import MTPTransformer

Choose = Callable[[Tensor, int], Tensor]
"""Maps an offset's logits `[row, d_vocab]` and the offset to the drafted token `[row]`."""
MakeView = Callable[[Tensor, bool], View]
"""Makes the causal view of tokens at slots `[row, token]`: each sees the slots up to its own. False: without a mask."""


class Commit(NamedTuple):
    """The tokens that a forward commits, with their residual streams."""

    streams: dict[int, Tensor]
    """Residual streams `[row, token, d_model]` after each future head that ran, by its index; -1 is the trunk's z."""
    tokens: Tensor
    """`[row, token]`: the committed tokens. Entries after `place` are not committed; their slots are overwritten later."""
    start: Tensor
    """`[row]`: number of tokens committed earlier."""
    place: Tensor
    """`[row]`: index in `tokens` of the last committed one."""
    own: Tensor
    """`[row]`: the token that offset 1 adds after the last committed one."""
    rows: Tensor
    """`[row, 1]`: rows of the caches."""
    prefill: bool

    @property
    def slots(self) -> Tensor:
        """`[row, token]`: slots of the tokens in the caches."""
        return self.start[:, None] + torch.arange(self.tokens.shape[1], device=self.tokens.device)

    @property
    def last(self) -> Tensor:
        """`[row]`: the slot of the last committed token."""
        return self.start + self.place

    def at_last(self, stream: Tensor) -> Tensor:
        """`[row, d_model]`: a residual stream at the last committed token."""
        return stream[torch.arange(len(stream), device=stream.device), self.place]


@runtime_checkable
class Drafter(Protocol):
    """Drafts the offsets 2 .. K."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        """Logits `[row, offset, d_vocab]` of the offsets 2 .. K at the last committed token."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order."""
        ...


class Memory(NamedTuple):
    """Sizes, dtype and device of the tensors that drafters store."""

    rows: int
    capacity: int
    dtype: torch.dtype
    device: torch.device


def final_logits(model: MTPTransformer, resid: Tensor, offset: int = 1) -> Tensor:
    """Float32 logits of one offset, computed in the dtype of the final norm, which may be finer than that of the layers."""
    return model.logits(resid.to(model.ln_final.weight.dtype), offset).float()
