"""A model with its KV caches: one forward verifies the drafts of all rows, commits the accepted ones, and makes new drafts.

Rows may have different lengths. A forward can be captured as a CUDA graph (graphs.py), because all sizes are fixed, nothing
synchronises with the device, and caches stay at their addresses. The loop around the engine is in decoder.py.

Dimension letters: B row, W node of the tree of drafts, D committed token, S slot, V d_vocab.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from playground.generation.cache import KVCache, View, cached_block
from playground.generation.config import DecodingConfig
from playground.generation.drafters import make_drafter
from playground.generation.drafting import Commit, Memory, final_logits
from playground.generation.sampling import distribution, draw
from playground.generation.verify import draft_tokens, samples_drafts, tree_tensors, verify
from playground.model.layers import Block, Rotation
from playground.model.transformer import MTPTransformer

RECOMPILE_LIMIT = 64
"""Most compilations of one function: one for each combination of rows, nodes and span."""


class Noise(NamedTuple):
    """Uniform random numbers from [0, 1) for one forward; None in greedy decoding."""

    verify: Tensor | None
    """`[row, node, 2]`, for acceptance and for offset 1's own token."""
    draft: Tensor | None
    """`[row, draft]`, for drafts that are sampled."""


class State(NamedTuple):
    """State of all rows between two forwards."""

    length: Tensor
    """`[row]`: number of committed tokens, whose keys and values are in the cache."""
    root: Tensor
    """`[row]`: the token after the committed ones; it is emitted, but no forward has read it yet."""
    drafts: Tensor
    """`[row, draft]`: drafts for the tokens after the root."""
    drawn_from: Tensor | None
    """`[row, draft, d_vocab]`: the distributions from which sampled drafts were drawn; None if drafts are not sampled."""


def keep_rows(state: State, rows: Tensor) -> State:
    """The state of only these rows, in this order."""
    drawn_from = None if state.drawn_from is None else state.drawn_from[rows]
    return State(state.length[rows], state.root[rows], state.drafts[rows], drawn_from)


class Engine:
    """KV caches for `rows` rows, and forwards over them.

    `model` must be in evaluation mode and have no hooks, most of which would not run.
    """

    def __init__(self, model: MTPTransformer, config: DecodingConfig, rows: int) -> None:
        self.model, self.config, self.tree = model, config, config.drafts
        self.device = model.W_E.device
        self.tables = tree_tensors(self.tree, self.device)
        self.heads = model.path(1)
        self.layers = [*model.blocks, *(model.future_heads[index] for index in self.heads)]
        memory = Memory(rows, model.n_ctx + self.tree.n_nodes, model.W_E.dtype, self.device)
        self._check_path()
        n_attention = sum(isinstance(layer, Block) for layer in self.layers)
        shape = (n_attention, rows, model.config.n_heads, memory.capacity, model.config.d_head)
        self.cache = KVCache(shape, memory.dtype, self.device)
        self.drafter = make_drafter(model, self.tree.speculative, memory)
        self.capacity = memory.capacity
        self.reach = torch.arange(max(memory.capacity, rows), device=self.device)  # numbers slots, and rows
        self.turns = self._turns(memory.capacity) if model.config.positions == "rotary" else None
        self.prepare, self.block, self.judge = self._prepare, cached_block, self._judge

    def compile(self) -> None:
        """Fuse the layers with torch.compile (one compilation for all of them), and the steps before and after them."""
        from torch._dynamo import config as dynamo  # loading it takes a second

        dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILE_LIMIT)
        self.prepare = torch.compile(self._prepare, dynamic=False)
        self.block = torch.compile(cached_block, dynamic=False)
        self.judge = torch.compile(self._judge, dynamic=False)

    def _turns(self, capacity: int) -> Rotation:
        """Cosines and sines `[position, 1, d_head]`; positions past the context, never verified, repeat the last."""
        cos, sin = self.model.rotary(self.model.n_ctx)
        at = torch.arange(capacity, device=self.device).clamp(max=self.model.n_ctx - 1)
        dtype = self.model.W_E.dtype
        return cos[at][:, None].to(dtype), sin[at][:, None].to(dtype)

    @property
    def samples_drafts(self) -> bool:
        """True if drafts are drawn at random."""
        return samples_drafts(self.tree, self.config.sampling, self.config.rule)

    def prefill(self, rows: Tensor, tokens: Tensor, length: Tensor, noise: Noise, own: Tensor | None = None) -> State:
        """Read the first `length[row]` of `tokens` `[row, token]` into these rows; returns a state with next token and drafts.

        `own` `[row]` is the next token if it is already known.
        """
        slots = self.reach[: tokens.shape[1]].expand(len(tokens), -1)
        view = self._view(rows[:, None], slots, slots, None, tokens.shape[1])
        streams, resid = self._path(tokens, slots, view)
        if own is None:
            last = resid[torch.arange(len(rows), device=self.device), length - 1]
            own = self._choose(final_logits(self.model, last), None if noise.verify is None else noise.verify[:, 0, 1])
        commit = Commit(streams, tokens, torch.zeros_like(length), length - 1, own, rows[:, None], prefill=True)
        drafts, drawn_from = self._draft(commit, noise, tokens.shape[1])
        return State(length, own, drafts, drawn_from)

    def forward(self, state: State, noise: Noise, span: int) -> tuple[State, Tensor]:
        """Verify, commit, draft. `span` is the number of slots that attention reads: at least the longest row plus the nodes.

        Returns the new state, and `[row, 2]`: the last accepted node, and the number of accepted drafts.
        """
        nodes_BW, positions, view = self.prepare(state, span)
        streams, resid_BWD = self._path(nodes_BW, positions, view)
        return self.judge(state, noise, nodes_BW, streams, resid_BWD, span)

    def _prepare(self, state: State, span: int) -> tuple[Tensor, Tensor, View]:
        """The nodes `[row, node]`, their positions `[row, node]`, and their view of the cache."""
        rows = self.reach[: len(state.root), None]
        nodes_BW = torch.cat((state.root[:, None], state.drafts), dim=1)
        slots = state.length[:, None] + self.reach[: self.tree.n_nodes]
        positions = state.length[:, None] + self.tables.depths
        return nodes_BW, positions, self._view(rows, slots, positions, self._tree_mask(state, span), span)

    def _judge(
        self, state: State, noise: Noise, nodes_BW: Tensor, streams: dict[int, Tensor], resid_BWD: Tensor, span: int
    ) -> tuple[State, Tensor]:
        """The steps after the next-token path: verify, commit, draft. Returns as `forward`."""
        rows = self.reach[: len(state.root), None]
        room = self.model.n_ctx - 1 - state.length
        logits_BWV = final_logits(self.model, resid_BWD)
        verdict = verify(logits_BWV, state.drafts, state.drawn_from, room, noise.verify, self.tables, self.config)
        if not self.tree.is_chain:  # accepted nodes are scattered over the tree: make their slots consecutive
            line = self.tables.lines[verdict.last]
            streams = {index: stream[rows, line] for index, stream in streams.items()}
            nodes_BW = nodes_BW.gather(1, line)
            depths = self.reach[: self.tree.speculative]
            self.cache.move(rows, state.length[:, None] + line, state.length[:, None] + depths)
        commit = Commit(streams, nodes_BW, state.length, verdict.accepted, verdict.own, rows, prefill=False)
        drafts, drawn_from = self._draft(commit, noise, span)
        # Under CUDA graphs rows that have ended stay in the batch: they must not grow past the slots of the cache.
        length = (state.length + verdict.accepted + 1).clamp(max=self.model.n_ctx)
        new = State(length, verdict.own, drafts, drawn_from)
        return new, torch.stack((verdict.last, verdict.accepted), dim=1)

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order; the memory of the others is freed."""
        self.cache.keep(rows)
        self.drafter.keep(rows)

    def _check_path(self) -> None:
        """Raises ValueError if the next-token path has a future head whose attention the cache does not know."""
        for index in self.heads:
            module = self.model.head_modules[index]
            if module.has_attention and not module.is_trunk_layer:
                raise ValueError(
                    f"the {self.model.config.future_heads} future head of offset {index + 1} is on the next token's path, and "
                    "its attention is not that of a trunk layer, which alone is cached; write cached=False"
                )

    def _path(self, tokens: Tensor, positions: Tensor, view: View) -> tuple[dict[int, Tensor], Tensor]:
        """Residual streams `[row, token, d_model]` after the trunk (key -1) and after each future head of the next-token path
        (key: its index), and the last of them."""
        model, attention = self.model, 0
        resid = model.embed(tokens)
        if model.config.positions == "standard":
            resid = resid + model.pos_embed(positions.clamp(max=model.n_ctx - 1))
        streams: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers, -len(model.blocks)):
            if number == 0:
                streams[-1] = resid
            if isinstance(layer, Block):
                resid = self.block(layer, resid, view, self.cache.keys[attention], self.cache.values[attention])
                attention += 1
            else:
                resid = layer(resid, None)
            if number >= 0:
                streams[self.heads[number]] = resid
        return streams, resid

    def _draft(self, commit: Commit, noise: Noise, span: int) -> tuple[Tensor, Tensor | None]:
        sampling, rule = self.config.sampling, self.config.rule

        def view(slots: Tensor, masked: bool) -> View:
            seen = self.reach[:span] <= slots[..., None] if masked else None
            return self._view(commit.rows, slots, slots, seen, span)

        def choose(logits_BV: Tensor, offset: int) -> Tensor:
            if noise.draft is None or not self.samples_drafts:
                return logits_BV.argmax(dim=-1)
            return self._choose(logits_BV, noise.draft[:, offset - 2])

        logits_BKV = self.drafter.logits(commit, view, choose)
        if not self.tree.paths:
            return torch.zeros_like(commit.own)[:, None][:, :0], None
        return draft_tokens(logits_BKV, noise.draft, self.tree, self.tables, sampling, rule)

    def _choose(self, logits_BV: Tensor, uniform: Tensor | None) -> Tensor:
        """The most probable token, or one drawn with the numbers `uniform` `[row]`."""
        return (
            logits_BV.argmax(dim=-1)
            if uniform is None
            else draw(distribution(logits_BV, self.config.sampling), uniform)
        )

    def _view(self, rows: Tensor, slots: Tensor, positions: Tensor, seen: Tensor | None, span: int) -> View:
        rotation, mask = None, None
        if self.turns is not None:
            cos, sin = self.turns
            rotation = (cos[positions], sin[positions])
        if seen is not None:
            mask = torch.zeros(seen.shape, dtype=self.model.W_E.dtype, device=self.device).masked_fill_(
                ~seen, -torch.inf
            )[:, None]
        return View(rows, slots, rotation, mask, span)

    def _tree_mask(self, state: State, span: int) -> Tensor:
        """`[row, node, slot]`: True for the committed tokens, the node itself and the nodes on its path."""
        # Slots as indices of the tree's nodes; negative ones belong to committed tokens.
        after_BS = self.reach[:span] - state.length[:, None]
        if self.tree.is_chain:
            return after_BS[:, None] <= self.reach[: self.tree.n_nodes, None]
        node_BS = after_BS.clamp(0, self.tree.n_nodes - 1)
        on_path_BWS = self.tables.ancestors[:, node_BS].transpose(0, 1)
        after_BWS = after_BS[:, None]
        return (after_BWS < 0) | (on_path_BWS & (after_BWS < self.tree.n_nodes))
