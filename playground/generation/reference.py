"""Decoding written out plainly: no cache, one row after another, the whole context through the model for every token.

Slow, and the definition of what the cached engine must give (engine.py; the tests hold the two equal). It runs the model
itself, hooks included, and so it also decodes under ablations, clamps and other edits, which cached decoding refuses.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from playground.generation.config import DecodingConfig
from playground.generation.sampling import distribution, draw
from playground.generation.trace import Forward, Trace
from playground.generation.tree import Tree
from playground.generation.verify import TreeTensors, draft_tokens, samples_drafts, tree_tensors, verify
from playground.generation.window import window_start
from playground.model.transformer import MTPTransformer
from playground.results import Decoding, DecodingStep

OnStep = Callable[[int, DecodingStep], None]
"""Called with the row and the forward, as each is done."""


def generate_uncached(
    model: MTPTransformer,
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Decoding:
    """Decode every prompt. `generator` lives on the model's device."""
    traces: list[Trace] = []
    prefill, decode = 0.0, 0.0
    for row, prompt in enumerate(prompts):
        writer = _Writer(model, config, generator)
        trace = Trace(prompt=tuple(int(token) for token in prompt))
        traces.append(trace)
        while not trace.ended:
            started = time.perf_counter()
            forward = writer.forward(trace.known)
            spent = time.perf_counter() - started
            prefill, decode = (prefill, decode + spent) if trace.forwards else (prefill + spent, decode)
            trace.add(forward, config)
            if on_step is not None:
                on_step(row, forward.step())
    return Decoding(
        decoded=tuple(trace.result() for trace in traces),
        speculative=config.drafts.speculative,
        exact=config.rule == "exact",
        prefill_seconds=prefill,
        decode_seconds=decode,
    )


class _Writer:
    """One row's drafts, from one forward to the next."""

    def __init__(self, model: MTPTransformer, config: DecodingConfig, generator: torch.Generator | None) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.device = model.W_E.device
        self.tree = Tree(())
        self.drafts = torch.zeros(1, 0, dtype=torch.long, device=self.device)
        self.drawn_from: Tensor | None = None

    def forward(self, known: list[int]) -> Forward:
        """Verify the drafts that wait, emit, and draft anew."""
        context = known[window_start(len(known), self.model.n_ctx) :]
        tables = tree_tensors(self.tree, self.device)
        logits_WV = torch.stack([self._next(context + self._line(node, tables)) for node in range(self.tree.n_nodes)])
        room = torch.tensor([self.model.n_ctx - len(context)], device=self.device)
        verdict = verify(
            logits_WV[None],
            self.drafts,
            self.drawn_from,
            room,
            self._uniform(self.tree.n_nodes, 2),
            tables,
            self.config,
        )
        forward = Forward(self.tree, self.drafts[0].tolist(), int(verdict.last), int(verdict.own), int(room))
        self._draft([*known, *forward.emitted])
        return forward

    def _line(self, node: int, tables: TreeTensors) -> list[int]:
        """The drafts from the root to a node."""
        nodes = tables.lines[node, 1 : 1 + int(tables.depths[node])]
        return self.drafts[0, nodes - 1].tolist()

    def _next(self, tokens: list[int]) -> Tensor:
        """Offset 1's logits behind the tokens; beyond the context nothing is asked, and the last place stands in."""
        return self._logits(tokens[: self.model.n_ctx], 1)[-1]

    def _draft(self, known: list[int]) -> None:
        """Drafts of the offsets 2 .. K, seen from the token before the last one: what an offset of the last forward says.

        The row goes on with each draft, so that a head that reads the tokens between (`sequential`) finds them there.
        """
        self.tree, self.drawn_from = self.config.drafts, None
        tables = tree_tensors(self.tree, self.device)
        context = known[window_start(len(known), self.model.n_ctx) :]
        position = len(context) - 2
        logits: list[Tensor] = []
        favourites: list[int] = []
        drawn = samples_drafts(self.tree, self.config.sampling, self.config.rule)
        uniform = self._uniform(len(self.tree.paths))
        for offset in range(2, self.tree.speculative + 1):
            logits.append(self._logits((context + favourites)[: self.model.n_ctx], offset)[position])
            favourites.append(self._favourite(logits[-1][None], uniform[:, offset - 2] if drawn else None))
        if logits:
            stacked = torch.stack(logits)[None]
            self.drafts, self.drawn_from = draft_tokens(
                stacked, uniform, self.tree, tables, self.config.sampling, self.config.rule
            )

    def _favourite(self, logits_BV: Tensor, uniform: Tensor | None) -> int:
        """The most probable token, or with numbers one that is drawn."""
        if uniform is None:
            return int(logits_BV.argmax(dim=-1))
        return int(draw(distribution(logits_BV, self.config.sampling), uniform))

    def _logits(self, tokens: list[int], offset: int) -> Tensor:
        """`[pos, d_vocab]` of one offset, in float32."""
        with torch.no_grad():
            return self.model(torch.tensor([tokens], device=self.device), (offset,))[0, :, 0].float()

    def _uniform(self, *shape: int) -> Tensor:
        """Numbers from [0, 1) for one row; greedy decoding uses none."""
        if self.config.sampling.is_greedy:
            return torch.zeros(1, *shape, device=self.device)
        return torch.rand(1, *shape, generator=self.generator, device=self.device)
