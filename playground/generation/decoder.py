"""The decoding loop around the engine: prefill, batched forwards, sliding contexts, and removal of finished rows."""

import copy
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from playground.generation.config import DecodingConfig
from playground.generation.engine import Engine, Noise, State, keep_rows
from playground.generation.graphs import GraphedForward
from playground.generation.reference import OnStep
from playground.generation.trace import Forward, Trace
from playground.generation.tree import Tree
from playground.generation.window import window_start
from playground.model.transformer import MTPTransformer
from playground.results import Decoding

NO_DRAFTS = Tree(())


class Decoder:
    """Cached decoding of one model. Rows that have ended are removed from the batch.

    `dtype` is the type of weights and KV caches (by default the model's own); the final norm and the unembedding keep theirs.
    On CUDA a forward is one CUDA graph (`graphs=False` launches its kernels one by one), and the batch keeps its shape;
    `compiled` fuses the kernels with torch.compile first, which takes a minute. A decoder keeps its graphs, and copies of
    weights, between calls: after the model has changed, make a new decoder.
    Raises ValueError for a model with hooks, which cached decoding would ignore, and for graphs without CUDA.
    """

    def __init__(
        self,
        model: MTPTransformer,
        config: DecodingConfig,
        *,
        dtype: torch.dtype | None = None,
        graphs: bool | None = None,
        compiled: bool = False,
    ) -> None:
        _refuse_hooks(model)
        on_cuda = model.W_E.device.type == "cuda"
        if graphs and not on_cuda:
            raise ValueError("CUDA graphs need a model on a GPU; write graphs=False, or move the model there")
        config.check(model.config)
        self.model, self.config, self.compiled = _in_dtype(model, dtype), config, compiled
        self.graphed = on_cuda if graphs is None else graphs
        self._kept: dict[int, GraphedForward] = {}

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Decoding:
        """Continue every prompt. Prompts are not checked here: `generate` in generate.py checks them and has the details."""
        _refuse_hooks(self.model)
        batch = _Batch(self._engine(len(prompts)), prompts, generator, on_step)
        started = time.perf_counter()
        batch.begin()
        begun = time.perf_counter()
        while batch.goes_on():
            batch.forward()
        ended = time.perf_counter()
        return Decoding(
            decoded=tuple(trace.result() for trace in batch.traces),
            speculative=self.config.drafts.speculative,
            exact=self.config.rule == "exact",
            prefill_seconds=begun - started,
            decode_seconds=ended - begun,
        )

    def make_engine(self, rows: int) -> Engine:
        """An engine with caches for `rows` rows; a subclass may return one with other drafts."""
        return Engine(self.model, self.config, rows)

    def _engine(self, rows: int) -> Engine | GraphedForward:
        if rows in self._kept:
            return self._kept[rows]
        engine = self.make_engine(rows)
        if self.compiled:
            engine.compile()
        if self.graphed:
            self._kept[rows] = GraphedForward(engine, rows)
        return self._kept.get(rows, engine)


class _Batch:
    """The rows of one call of `Decoder.generate`."""

    def __init__(
        self,
        engine: Engine | GraphedForward,
        prompts: Sequence[Sequence[int]],
        generator: torch.Generator | None,
        on_step: OnStep | None,
    ) -> None:
        self.graphed = engine if isinstance(engine, GraphedForward) else None
        self.engine = engine.engine if isinstance(engine, GraphedForward) else engine
        self.config, self.n_ctx = self.engine.config, self.engine.model.n_ctx
        self.generator, self.on_step = generator, on_step
        self.traces = [Trace(prompt=tuple(int(token) for token in prompt)) for prompt in prompts]
        self.active = list(range(len(prompts)))
        """For each place in the engine, the index of its row."""
        self.starts = [0] * len(prompts)
        """For each row, the index of its first token in the context."""
        self.state: State
        self.under_way: list[tuple[Tensor, torch.cuda.Event]] = []
        """Started forwards whose outcome is still being copied from the device."""

    def begin(self) -> None:
        """Prefill the prompts; every row gets its first token."""
        self.state = self._prefill(self.active, [trace.known for trace in self.traces])
        if self.graphed is not None:
            self.graphed.set_state(self.state)
            self.state = self.graphed.state
        for place, token in enumerate(self.state.root.tolist()):
            self._take(place, Forward(NO_DRAFTS, (), 0, token))

    def goes_on(self) -> bool:
        """Remove rows that have ended, and slide contexts that are full; False when no row is left."""
        going = [place for place, row in enumerate(self.active) if not self.traces[row].ended]
        if not going:
            return False
        if len(going) < len(self.active) and self.graphed is None:  # a CUDA graph has a fixed number of rows
            keep = torch.tensor(going, device=self.engine.device)
            self.engine.keep(keep)
            self.state = keep_rows(self.state, keep)
            self.active = [self.active[place] for place in going]
        self._slide()
        return True

    def forward(self) -> None:
        """One forward of all rows."""
        longest = max(self._context_length(row) for row in self.active if not self.traces[row].ended)
        span = longest - 1 + self.engine.tree.n_nodes
        if self.graphed is not None:
            self._forward_graphed(self.graphed, span)
            return
        fed = self.state.drafts
        self.state, outcome = self.engine.forward(self.state, self._noise(len(self.active)), span)
        self._read(torch.cat((outcome[:, :1], self.state.root[:, None], fed), dim=1))

    def _forward_graphed(self, graphed: GraphedForward, span: int) -> None:
        """Start a forward before the outcome of the previous one is read, so that the device does not wait for Python.

        With `overflow="slide"` each outcome is read first, because it decides whether a context slides.
        """
        ahead = 0 if self.config.overflow == "slide" else 1
        # Each unread forward may have added up to K tokens, so the span must cover that many more slots.
        read = graphed(span + len(self.under_way) * self.engine.tree.speculative, self.generator)
        outcome = torch.empty(read.shape, dtype=read.dtype, pin_memory=True).copy_(read, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self.under_way.append((outcome, event))
        while len(self.under_way) > ahead:
            outcome, event = self.under_way.pop(0)
            event.synchronize()
            self._read(outcome)

    def _read(self, outcome: Tensor) -> None:
        for place, (last, own, *drafts) in enumerate(outcome.tolist()):
            trace = self.traces[self.active[place]]
            if not trace.ended:
                room = self.n_ctx - self._context_length(self.active[place])
                self._take(place, Forward(self.engine.tree, drafts, last, own, room))

    def _take(self, place: int, forward: Forward) -> None:
        row = self.active[place]
        self.traces[row].add(forward, self.config)
        if self.on_step is not None:
            self.on_step(row, forward.step())

    def _context_length(self, row: int) -> int:
        return self.traces[row].length - self.starts[row]

    def _slide(self) -> None:
        """Prefill again the contexts that are longer than n_ctx, without their last token: the next forward reads that one."""
        full = [
            place
            for place, row in enumerate(self.active)
            if not self.traces[row].ended and self._context_length(row) > self.n_ctx
        ]
        if not full:
            return
        moved = self._prefill(full, [self.traces[self.active[place]].known for place in full], emitted=True)
        at = torch.tensor(full, device=self.engine.device)
        for old, new in zip(self.state, moved, strict=True):
            if old is not None and new is not None:
                old[at] = new

    def _prefill(self, places: list[int], known: list[list[int]], *, emitted: bool = False) -> State:
        """Prefill contexts into places of the engine. `emitted`: leave out each last token, which is already emitted."""
        device = self.engine.device
        contexts: list[list[int]] = []
        for place, tokens in zip(places, known, strict=True):
            start = window_start(len(tokens), self.n_ctx)
            self.starts[self.active[place]] = start
            contexts.append(tokens[start : len(tokens) - emitted])
        length = torch.tensor([len(context) for context in contexts], device=device)
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(context) for context in contexts], batch_first=True)
        own = torch.tensor([tokens[-1] for tokens in known], device=device) if emitted else None
        rows = torch.tensor(places, device=device)
        return self.engine.prefill(rows, tokens.to(device), length, self._noise(len(places)), own)

    def _noise(self, rows: int) -> Noise:
        if self.config.sampling.is_greedy:
            return Noise(None, None)
        tree = self.engine.tree
        return Noise(self._uniform(rows, tree.n_nodes, 2), self._uniform(rows, len(tree.paths)))

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.engine.device)


def _refuse_hooks(model: MTPTransformer) -> None:
    hooked = [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
    if hooked:
        raise ValueError(
            f"the model has hooks (the first at {hooked[0]}), which cached decoding would ignore; remove them, or "
            "write cached=False"
        )


def _in_dtype(model: MTPTransformer, dtype: torch.dtype | None) -> MTPTransformer:
    """The model, or a copy in another precision whose final norm and unembeddings keep theirs."""
    if dtype is None or dtype == model.W_E.dtype:
        return model
    cast = copy.deepcopy(model).to(dtype)
    cast.ln_final = copy.deepcopy(model.ln_final)
    cast.unembed = copy.deepcopy(model.unembed)
    cast.more_unembeds = copy.deepcopy(model.more_unembeds)
    return cast
