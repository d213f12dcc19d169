"""Drafters: how each type of future heads drafts (playground/config/future_heads.py lists the types).

A drafter runs once per forward, after the committed tokens are known: it returns the logits of the offsets 2 .. K at the last
committed token. It stores what it needs of earlier tokens.

| type                  | drafter     | cost of a forward of D committed tokens                                              |
|-----------------------|-------------|--------------------------------------------------------------------------------------|
| independent           | `Parallel`  | one batched layer: keys and values of D tokens, everything else for one              |
| linear, medusa_*      | `Pointwise` | K - 1 matrices for one token                                                         |
| causal                | `Chained`   | K - 1 layers for D tokens: each reads the output of the previous one at every token  |
| anticausal            | `Free`      | nothing: the next-token path runs through all of them                                |
| hydra                 | `Onward`    | K - 1 MLPs for one token, one after another                                          |
| sequential            | `Rereading` | K - 1 layers for D + K - 2 tokens: earlier ones again, with the tokens now known     |

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
"""Largest vocabulary for which each token's contribution to the `hydra` heads is precomputed as a table."""
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


def make_drafter(model: MTPTransformer, speculative: int, memory: Memory) -> Drafter:
    """The drafter for the model's type of future heads; K is `speculative`."""
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
    """Drafter for `anticausal` heads: the next-token path has already computed the streams of all offsets."""

    def __init__(self, model: MTPTransformer, speculative: int) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        if not self.offsets:
            return torch.empty(len(commit.own), 0, self.model.W_E.shape[0], device=commit.own.device)
        found = [final_logits(self.model, commit.at_last(commit.streams[k - 1]), k) for k in self.offsets]
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        """Nothing is stored of earlier tokens."""


class Pointwise(Free):
    """Drafter for matrices without attention, which read z or the residual stream after future head 1."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        read = commit.at_last(commit.streams[-1 if self.model.config.future_heads == "linear" else 0])
        found = [final_logits(self.model, self.model.future_heads[k - 1](read[:, None])[:, 0], k) for k in self.offsets]
        return torch.stack(found, dim=1)


class Onward(Free):
    """Drafter for `hydra` heads: MLPs that read the stream after the previous head and the token drafted from it.

    They run one after another, so the number of kernels decides the time. The final norm and the next head's norm differ only
    in their weights; with the weights folded into the matrices that follow, one product of the normalised stream gives both an
    offset's logits and the next head's hidden layer. The contribution of a token depends on nothing else; if the vocabulary is
    small, it is looked up in a table.
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
        """A function from tokens `[token]` to their contribution `[token, 2 d_mlp]` to a head's hidden layer."""
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
        """The normalised residual stream, before the norm's weight and bias."""
        if self.ln.centred:
            return F.layer_norm(resid, resid.shape[-1:], None, None, self.ln.eps)
        return F.rms_norm(resid, resid.shape[-1:], None, self.ln.eps)


Linear = tuple[Tensor, Tensor | None]
"""Weight `[output, input]` and bias of a linear map."""


def _folded(norm: Norm, weight: Tensor) -> Linear:
    """The linear map `weight` after a norm, as a linear map of the normalised stream (the norm's weight and bias folded in)."""
    scale = norm.weight.to(weight.dtype)
    return weight * scale, None if norm.bias is None else weight @ norm.bias.to(weight.dtype)


def _joined(one: Linear, other: Linear | None) -> Linear:
    """Both maps as one, with concatenated outputs; the first alone if `other` is None."""
    if other is None:
        return one
    bias = None if one[1] is None or other[1] is None else torch.cat((one[1], other[1]))
    return torch.cat((one[0], other[0])), bias


class Parallel:
    """Drafter for layers that all read z: one batched layer, evaluated for the last committed token."""

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
    """Drafter for layers that read the stream after the previous one: all of them run at every committed token."""

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
    """Drafter for DeepSeek-V3's modules: head k reads the stream after head k - 1 and the token k - 1 ahead.

    While drafting, the tokens ahead of the last positions are drafts that may be rejected later. Therefore each forward
    recomputes the K - 2 positions before the committed tokens, with the tokens that now follow them.
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
        """Slots `[row, token]` of the tokens to recompute, and the index `[row]` of the last committed one among them.

        In a row with fewer earlier tokens, slot 0 is repeated: the repeats write equal values to it.
        """
        if commit.prefill:
            return commit.slots, commit.place
        length = commit.tokens.shape[1] + len(self.offsets) - 1
        back = torch.arange(length - 1, -1, -1, device=commit.own.device)
        return (commit.last[:, None] - back).clamp(min=0), torch.full_like(commit.place, length - 1)

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)
        self.read, self.tokens = self.read[:, rows], self.tokens[rows]


def final_logits(model: MTPTransformer, resid: Tensor, offset: int = 1) -> Tensor:
    """Float32 logits of one offset, computed in the dtype of the final norm, which may be finer than that of the layers."""
    return model.logits(resid.to(model.ln_final.weight.dtype), offset).float()


def _block(model: MTPTransformer, index: int) -> Block:
    head = model.future_heads[index]
    assert isinstance(head, Block)
    return head


def _cache(model: MTPTransformer, layers: int, memory: Memory) -> KVCache:
    config = model.config
    shape = (layers, memory.rows, config.n_heads, memory.capacity, config.d_head)
    return KVCache(shape, memory.dtype, memory.device)
