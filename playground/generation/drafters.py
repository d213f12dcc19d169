"""Drafters: the ways in which future heads draft. A type of future heads names its way (`FutureHeadType.drafting`).

A drafter runs once per forward, after the committed tokens are known: it returns the logits of the offsets 2 .. K at the last
committed token. It stores what it needs of earlier tokens.

| way                  | for                                        | cost of a forward of D committed tokens                |
|----------------------|--------------------------------------------|--------------------------------------------------------|
| `streams_at_hand`    | heads on the next-token path               | nothing: they have all run                             |
| `at_last_token`      | modules without attention                  | K - 1 modules for one token                            |
| `mlps_in_turn`       | gated MLPs that read the token before      | K - 1 MLPs for one token, one after another            |
| `layers_at_once`     | layers that read z                         | one batched layer: keys and values of D tokens,        |
|                      |                                            | everything else for one                                |
| `layers_in_turn`     | layers that read the previous one's output | K - 1 layers for D tokens: each at every token         |
| `layers_over_window` | such layers that also read a token         | K - 1 layers for D + K - 2 tokens: earlier ones again, |
|                      |                                            | with the tokens now known                              |
| `whole_rows`         | any modules                                | all modules for all tokens of the row, without a cache |

Dimension letters: B row, D committed token, K offset, V d_vocab, S slot; the width of the stream is the last dimension.
"""

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from playground.generation.cache import KVCache, cached_block
from playground.generation.drafting import Choose, Commit, Drafter, MakeView, Memory, final_logits
from playground.generation.mlps_in_turn import MlpsInTurn
from playground.generation.stacked import StackedBlocks
from playground.model.future_heads.base import Drafting, implementation
from playground.model.layers import Block
from playground.model.transformer import MTPTransformer


def make_drafter(model: MTPTransformer, speculative: int, memory: Memory) -> Drafter:
    """The drafter of the model's type of future heads; K is `speculative`."""
    way = implementation(model.config.future_heads).drafting if speculative > 1 else "streams_at_hand"
    return WAYS[way](model, speculative, memory)


class StreamsAtHand:
    """Drafter for heads that lie on the next-token path, which has already computed the streams of all offsets."""

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        if not self.offsets:
            return torch.empty(len(commit.own), 0, self.model.W_E.shape[0], device=commit.own.device)
        found = [final_logits(self.model, commit.at_last(commit.streams[k - 1]), k) for k in self.offsets]
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        """Nothing is stored of earlier tokens."""


class AtLastToken:
    """Drafter for modules without attention: only the last committed token runs through them."""

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        self.paths = [_not_yet_run(model, k) for k in self.offsets]
        used = [model.head_modules[index] for _, *indices in self.paths for index in indices]
        if any(module.has_attention for module in used):
            raise ValueError(
                f"the {model.config.future_heads} future heads have attention, which the drafting 'at_last_token' leaves out; "
                "write another `drafting` in their type"
            )
        self.in_sequence = any(module.reads_ahead for module in used)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        after: dict[int, Tensor] = {}
        tokens, found = [commit.own], list[Tensor]()
        for k, (start, *indices) in zip(self.offsets, self.paths, strict=True):
            if start not in after:
                after[start] = commit.at_last(commit.streams[start])[:, None]
            resid = after[start]
            for index in indices:
                if index not in after:
                    after[index] = self._run(index, resid, tokens)
                resid = after[index]
            found.append(final_logits(self.model, resid[:, 0], k))
            if self.in_sequence:
                tokens.append(choose(found[-1], k))
        return torch.stack(found, dim=1)

    def _run(self, index: int, resid: Tensor, tokens: list[Tensor]) -> Tensor:
        """The stream `[row, 1, d_model]` after a future head; `tokens` are those after the last committed one."""
        head, ahead = self.model.future_heads[index], self.model.head_modules[index].reads_ahead
        if ahead:
            return head(resid, None, self.model.embed(tokens[ahead - 1])[:, None])
        return head(resid, None)

    def keep(self, rows: Tensor) -> None:
        """Nothing is stored of earlier tokens."""


def _not_yet_run(model: MTPTransformer, offset: int) -> tuple[int, ...]:
    """The end of an offset's path: the last future head that has run for the next token (-1: none, only the trunk), and the
    rest."""
    path, run = model.path(offset), model.path(1)
    known = [place for place, index in enumerate(path) if index in run]
    return path[known[-1] :] if known else (-1, *path)


class LayersAtOnce:
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


class LayersInTurn:
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


@runtime_checkable
class JoinsToken(Protocol):
    """A layer whose input at every position is made of the stream before it and the embedding of a later token."""

    def join(self, resid: Tensor, embedded: Tensor) -> Tensor: ...


class LayersOverWindow:
    """Drafter for layers that join: head k reads the stream after head k - 1 and the token k - 1 ahead.

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
            head = _block(self.model, k - 1)
            embedded = self.model.embed(self.tokens[rows, slots + k - 1])
            joined = cast(JoinsToken, head).join(self.read[k - 2][rows, slots], embedded)
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


class WholeRows:
    """Drafter for any modules: they run on whole rows, as in training, and only the output at the last token is used.

    The trunk's output and the tokens of the rows are stored. What slots after the last committed token hold does not matter: no
    module reads a later position's stream, and of later tokens only drafts.
    """

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        shape = (memory.rows, memory.capacity, model.config.d_model)
        self.z = torch.zeros(shape, dtype=memory.dtype, device=memory.device)
        width = memory.capacity + speculative + 1
        self.tokens = torch.zeros(memory.rows, width, dtype=torch.long, device=memory.device)
        self.in_sequence = any(model.config.head_type.reads_ahead(model.n_future, k) for k in self.offsets)

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        rows, places = commit.rows, commit.rows[:, 0]
        self.z[rows, commit.slots] = commit.streams[-1]
        self.tokens[rows, commit.slots] = commit.tokens
        self.tokens[places, commit.last + 1] = commit.own
        z, last = self.z[places, : self.model.n_ctx], commit.last.clamp(max=self.model.n_ctx - 1)
        batch = torch.arange(len(last), device=last.device)
        if not self.in_sequence:
            resids = self.model.future_resids(z, None, self.offsets)
            found = [
                final_logits(self.model, resid[batch, last], k) for k, resid in zip(self.offsets, resids, strict=True)
            ]
            return torch.stack(found, dim=1)
        found = list[Tensor]()
        for k in self.offsets:
            resid = self.model.future_resid(z, k, self.tokens[places, : self.model.n_ctx])
            found.append(final_logits(self.model, resid[batch, last], k))
            self.tokens[places, commit.last + k] = choose(found[-1], k)
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        self.z, self.tokens = self.z[rows], self.tokens[rows]


WAYS: dict[Drafting, Callable[[MTPTransformer, int, Memory], Drafter]] = {
    "streams_at_hand": StreamsAtHand,
    "at_last_token": AtLastToken,
    "mlps_in_turn": MlpsInTurn,
    "layers_at_once": LayersAtOnce,
    "layers_in_turn": LayersInTurn,
    "layers_over_window": LayersOverWindow,
    "whole_rows": WholeRows,
}


def _block(model: MTPTransformer, index: int) -> Block:
    head = model.future_heads[index]
    assert isinstance(head, Block)
    return head


def _cache(model: MTPTransformer, layers: int, memory: Memory) -> KVCache:
    config = model.config
    shape = (layers, memory.rows, config.n_heads, memory.capacity, config.d_head)
    return KVCache(shape, memory.dtype, memory.device)
