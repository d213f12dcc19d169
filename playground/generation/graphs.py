"""Forwards as CUDA graphs: hundreds of kernels in one launch, for plain and for speculative decoding.

A graph is one forward with a fixed number of rows, nodes and slots (span). It reads and writes tensors at fixed addresses:
state, random numbers, caches. Graphs for longer contexts are recorded when first needed.
"""

import torch
from torch import Tensor

from playground.generation.engine import Engine, Noise, State

SPAN = 512
"""The span of a graph is a multiple of this number of slots."""
WARM_UP = 2
"""Forwards before recording, for the initialisation of libraries and for compilation, which must not be recorded."""


class GraphedForward:
    """The forwards of one engine, recorded once per span."""

    def __init__(self, engine: Engine, rows: int) -> None:
        self.engine = engine
        tree, device, d_vocab = engine.tree, engine.device, engine.model.W_E.shape[0]
        n_drafts = len(tree.paths)
        whole = {"dtype": torch.long, "device": device}
        drawn_from = torch.zeros(rows, n_drafts, d_vocab, device=device) if engine.samples_drafts else None
        self.state = State(
            torch.zeros(rows, **whole), torch.zeros(rows, **whole), torch.zeros(rows, n_drafts, **whole), drawn_from
        )
        self.noise = Noise(None, None)
        if not engine.config.sampling.is_greedy:
            self.noise = Noise(
                torch.zeros(rows, tree.n_nodes, 2, device=device), torch.zeros(rows, n_drafts, device=device)
            )
        self.read = torch.zeros(rows, 2 + n_drafts, **whole)
        """`[row, 2 + drafts]`: the last accepted node, offset 1's own token, and the drafts that were verified."""
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def set_state(self, state: State) -> None:
        """Continue from `state`, which is copied into the graph's own tensors."""
        _copy(state, self.state)

    def __call__(self, span: int, generator: torch.Generator | None) -> Tensor:
        """Start one forward; returns `read`, which the next one overwrites. Does not synchronise with the device."""
        for numbers in self.noise:
            if numbers is not None:
                numbers.uniform_(generator=generator)
        span = min(-(-span // SPAN) * SPAN, self.engine.capacity)
        if span not in self.graphs:
            self.graphs[span] = self._record(span)
        self.graphs[span].replay()
        return self.read

    def _record(self, span: int) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Writes only slots after the committed tokens, which the recorded forward writes again; the state is unchanged.
            for _ in range(WARM_UP):
                self.engine.forward(self.state, self.noise, span)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fed = self.state.drafts.clone()  # the verified drafts; _copy overwrites them with new ones
            new, outcome = self.engine.forward(self.state, self.noise, span)
            self.read.copy_(torch.cat((outcome[:, :1], new.root[:, None], fed), dim=1))
            _copy(new, self.state)
        return graph


def _copy(source: State, target: State) -> None:
    for old, new in zip(target, source, strict=True):
        if old is not None and new is not None:
            old.copy_(new)
