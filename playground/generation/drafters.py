"""How the future heads draft, type by type (playground/config/future_heads.py lists the types).

A drafter is asked once a forward, when it is known which tokens are committed: it gives the logits of the offsets 2 .. K behind
the last of them. What it needs of earlier tokens it keeps itself.

| type                  | drafter     | cost of a forward of D committed tokens                                              |
|-----------------------|-------------|--------------------------------------------------------------------------------------|
| independent           | `Parallel`  | one batched layer: keys and values of D tokens, everything else for one              |
| linear, medusa_*      | `Pointwise` | K - 1 matrices for one token                                                         |
| causal                | `Chained`   | K - 1 layers for D tokens: each reads the one before, at every token                 |
| anticausal            | `Free`      | nothing: the next-token path runs through all of them                                |
| hydra                 | `Onward`    | K - 1 MLPs for one token, one after another                                          |
| sequential            | `Rereading` | K - 1 layers for D + K - 2 tokens: earlier ones again, with the tokens now known    |

Dimension letters: B row, D committed token, K offset, V d_vocab, S slot; the width of the stream is the last dimension.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from playground.generation.cache import KVCache, View, cached_block
from playground.generation.stacked import StackedBlocks
from playground.model.future_heads import HydraHead, SequentialHead
from playground.model.layers import Block, Norm
from playground.model.transformer import MTPTransformer

SMALL_VOCABULARY = 4096
"""Up to so many tokens, what each adds to `hydra` heads is computed once."""
Choose = Callable[[Tensor, int], Tensor]
"""From an offset's logits `[row, d_vocab]` and the offset to the token that it drafts."""
MakeView = Callable[[Tensor, bool], View]
"""The view of tokens at `[row, token]` slots, each of which sees the slots up to its own; False leaves the mask out."""


class Commit(NamedTuple):
    """What a forward commits."""

    streams: dict[int, Tensor]
    """`[row, token, d_model]` of the committed tokens behind the future heads that ran (by index); -1 is the trunk's z."""
    tokens: Tensor
    """`[row, token]`: the committed tokens. Behind `place` lies what is not committed, and is overwritten later."""
    start: Tensor
    """`[row]`: how many tokens were committed before."""
    place: Tensor
    """`[row]`: which of these tokens is the last committed one."""
    own: Tensor
    """`[row]`: the token that offset 1 adds behind it."""
    rows: Tensor
    """`[row, 1]`: rows of the caches."""
    prefill: bool

    @property
    def slots(self) -> Tensor:
        """`[row, token]`: where the tokens lie in the caches."""
        return self.start[:, None] + torch.arange(self.tokens.shape[1], device=self.tokens.device)

    @property
    def last(self) -> Tensor:
        """`[row]`: the slot of the last committed token."""
        return self.start + self.place

    def at_last(self, stream: Tensor) -> Tensor:
        """`[row, d_model]`: a stream at the last committed token."""
        return stream[torch.arange(len(stream), device=stream.device), self.place]


@runtime_checkable
class Drafter(Protocol):
    """Drafts the offsets 2 .. K."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        """`[row, offset, d_vocab]`."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, in this order."""
        ...


class Memory(NamedTuple):
    """Sizes of what drafters keep."""

    rows: int
    capacity: int
    dtype: torch.dtype
    device: torch.device


def make_drafter(model: MTPTransformer, speculative: int, memory: Memory) -> Drafter:
    """The drafter of the model's type of future heads."""
    kind = model.config.future_heads
    if kind == "anticausal" or speculative == 1:
        return Free(model, speculative)
    if kind in ("linear", "medusa_linear", "medusa_mlp"):
        return Pointwise(model, speculative)
    if kind == "hydra":
        return Onward(model, speculative)
    drafters = {"independent": Parallel, "causal": Chained, "sequential": Rereading}
    return drafters[kind](model, speculative, memory)


class Free:
    """Streams that the next-token path has computed already."""

    def __init__(self, model: MTPTransformer, speculative: int) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        if not self.offsets:
            return torch.empty(len(commit.own), 0, self.model.W_E.shape[0], device=commit.own.device)
        found = [final_logits(self.model, commit.at_last(commit.streams[k - 1]), k) for k in self.offsets]
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        """There is nothing of earlier tokens."""


class Pointwise(Free):
    """Matrices without attention, which read z or the stream behind offset 1's layer."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        read = commit.at_last(commit.streams[-1 if self.model.config.future_heads == "linear" else 0])
        found = [final_logits(self.model, self.model.future_heads[k - 1](read[:, None])[:, 0], k) for k in self.offsets]
        return torch.stack(found, dim=1)


class Onward(Free):
    """MLPs of which each reads the one before and the token that was drafted there.

    They run one after another, and so every operation counts. Final norm and the next head's norm differ in their weights only:
    folded into the matrices behind them, one product of the normalised stream gives an offset's logits and the next head's
    hidden layer. What a token adds to that depends on nothing else, and is looked up where the vocabulary is small.
    """

    def __init__(self, model: MTPTransformer, speculative: int) -> None:
        super().__init__(model, speculative)
        self.d_vocab, self.ln = model.W_E.shape[0], model.ln_final
        heads = [head for head in (model.future_heads[k - 1] for k in self.offsets) if isinstance(head, HydraHead)]
        self.outs = [head.out for head in heads]
        with torch.no_grad():
            into = [_folded(head.ln_resid, head.gate_in.weight[:, : model.config.d_model]) for head in heads]
            unembed = [_folded(model.ln_final, model.unembed_of(k).weight.to(model.W_E.dtype)) for k in self.offsets]
            self.first = into[0]
            self.both = [_joined(*pair) for pair in zip(unembed, [*into[1:], None], strict=True)]
            self.of_token = [self._token_reader(model, head) for head in heads]

    def _token_reader(self, model: MTPTransformer, head: HydraHead) -> Callable[[Tensor], Tensor]:
        """From tokens to what each adds to a head's hidden layer, `[token, 2 d_mlp]`."""
        weight = head.gate_in.weight[:, model.config.d_model :].contiguous()

        def read(token: Tensor) -> Tensor:
            return F.linear(head.ln_embed(model.embed(token)), weight)

        if self.d_vocab > SMALL_VOCABULARY:
            return read
        table = read(torch.arange(self.d_vocab, device=weight.device))
        return lambda token: table[token]

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        resid, token = commit.at_last(commit.streams[0]), commit.own
        hidden = F.linear(self._normalized(resid), *self.first)
        found: list[Tensor] = []
        for k, out, both, of_token in zip(self.offsets, self.outs, self.both, self.of_token, strict=True):
            gate, linear = (hidden + of_token(token)).chunk(2, dim=-1)
            resid = resid + out(F.silu(gate) * linear)
            read = F.linear(self._normalized(resid), *both)
            found.append(read[:, : self.d_vocab].float())
            hidden = read[:, self.d_vocab :]
            token = choose(found[-1], k)
        return torch.stack(found, dim=1)

    def _normalized(self, resid: Tensor) -> Tensor:
        """The stream behind the norm, without the norm's own weights."""
        if self.ln.centred:
            return F.layer_norm(resid, resid.shape[-1:], None, None, self.ln.eps)
        return F.rms_norm(resid, resid.shape[-1:], None, self.ln.eps)


Linear = tuple[Tensor, Tensor | None]
"""Weight `[output, input]` and bias of a linear map."""


def _folded(norm: Norm, weight: Tensor) -> Linear:
    """What a matrix makes of a norm's output, as a map of the normalised stream."""
    scale = norm.weight.to(weight.dtype)
    return weight * scale, None if norm.bias is None else weight @ norm.bias.to(weight.dtype)


def _joined(one: Linear, other: Linear | None) -> Linear:
    """Both maps as one, their outputs side by side."""
    if other is None:
        return one
    bias = None if one[1] is None or other[1] is None else torch.cat((one[1], other[1]))
    return torch.cat((one[0], other[0])), bias


class Parallel:
    """Layers that all read z: one batched layer, for the last committed token."""

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        self.stacked = StackedBlocks([_block(model, k - 1) for k in self.offsets])
        self.cache = _cache(model, len(self.offsets), memory)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        write, read = view(commit.slots, False), view(commit.last[:, None], True)
        cached = (self.cache.keys, self.cache.values)
        resid_KBD = self.stacked.last(commit.streams[-1], commit.place, write, read, cached, fresh=commit.prefill)
        if not self.model.more_unembeds:
            return final_logits(self.model, resid_KBD).transpose(0, 1)
        found = [final_logits(self.model, resid, k) for resid, k in zip(resid_KBD, self.offsets, strict=True)]
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)


class Chained:
    """Layers of which each reads the one before: they run at every committed token."""

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        self.cache = _cache(model, len(self.offsets), memory)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        resid_BDD = commit.streams[0]
        seen = view(commit.slots, not commit.prefill)
        found: list[Tensor] = []
        for k in self.offsets:
            block = _block(self.model, k - 1)
            resid_BDD = cached_block(block, resid_BDD, seen, self.cache.keys[k - 2], self.cache.values[k - 2])
            found.append(final_logits(self.model, commit.at_last(resid_BDD), k))
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)


class Rereading:
    """DeepSeek-V3's modules: offset k's reads the stream behind offset k - 1's and the token k - 1 ahead.

    When tokens are drafted, the last of these are drafts themselves. So each forward goes over the K - 2 tokens before it once
    more, with the tokens that have come to stand behind them.
    """

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        self.cache = _cache(model, len(self.offsets), memory)
        shape = (len(self.offsets), memory.rows, memory.capacity, model.config.d_model)
        self.read = torch.zeros(shape, dtype=memory.dtype, device=memory.device)
        width = memory.capacity + speculative + 1
        self.tokens = torch.zeros(memory.rows, width, dtype=torch.long, device=memory.device)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        rows, batch = commit.rows, torch.arange(len(commit.own), device=commit.own.device)
        self.read[0][rows, commit.slots] = commit.streams[0]
        self.tokens[rows, commit.slots] = commit.tokens
        self.tokens[rows[:, 0], commit.last + 1] = commit.own
        slots, index = self._window(commit)
        seen = view(slots, not commit.prefill)
        found: list[Tensor] = []
        for k in self.offsets:
            head = self.model.future_heads[k - 1]
            assert isinstance(head, SequentialHead)
            embedded = self.model.embed(self.tokens[rows, slots + k - 1])
            joined = head.join(self.read[k - 2][rows, slots], embedded)
            resid = cached_block(head, joined, seen, self.cache.keys[k - 2], self.cache.values[k - 2])
            if k < self.offsets[-1]:
                self.read[k - 1][rows, slots] = resid
            found.append(final_logits(self.model, resid[batch, index], k))
            self.tokens[rows[:, 0], commit.last + k] = choose(found[-1], k)
        return torch.stack(found, dim=1)

    def _window(self, commit: Commit) -> tuple[Tensor, Tensor]:
        """Slots `[row, token]` of the tokens to go over, and which is the last committed. A row's first one may be repeated."""
        if commit.prefill:
            return commit.slots, commit.place
        length = commit.tokens.shape[1] + len(self.offsets) - 1
        back = torch.arange(length - 1, -1, -1, device=commit.own.device)
        return (commit.last[:, None] - back).clamp(min=0), torch.full_like(commit.place, length - 1)

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)
        self.read, self.tokens = self.read[:, rows], self.tokens[rows]


def final_logits(model: MTPTransformer, resid: Tensor, offset: int = 1) -> Tensor:
    """Logits of one offset in the precision of the final norm, which may be finer than that of the layers."""
    return model.logits(resid.to(model.ln_final.weight.dtype), offset).float()


def _block(model: MTPTransformer, index: int) -> Block:
    head = model.future_heads[index]
    assert isinstance(head, Block)
    return head


def _cache(model: MTPTransformer, layers: int, memory: Memory) -> KVCache:
    config = model.config
    shape = (layers, memory.rows, config.n_heads, memory.capacity, config.d_head)
    return KVCache(shape, memory.dtype, memory.device)
