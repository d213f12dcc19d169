"""Reference decoding without a cache: one row after another, the whole context through the model for every token.

It is slow and defines the output of the cached engine (engine.py; tests compare the two). It runs the model itself, hooks
included, so it also decodes with ablations, clamps and other edits, which cached decoding rejects.
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
"""Called after each forward of a row, with the index of the row and the step."""


def generate_uncached(
    model: MTPTransformer,
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Decoding:
    """Continue every prompt without a cache. `generator`, for sampling, is on the model's device."""
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
    """Decoding of one row: stores its drafts between forwards."""

    def __init__(self, model: MTPTransformer, config: DecodingConfig, generator: torch.Generator | None) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.device = model.W_E.device
        self.tree = Tree(())
        self.drafts = torch.zeros(1, 0, dtype=torch.long, device=self.device)
        self.drawn_from: Tensor | None = None

    def forward(self, known: list[int]) -> Forward:
        """Verify the stored drafts, emit tokens, and make new drafts. `known` are the prompt and all emitted tokens."""
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
        """Offset 1's logits after the tokens. Past the context, where no draft is verified, those of its last position."""
        return self._logits(tokens[: self.model.n_ctx], 1)[-1]

    def _draft(self, known: list[int]) -> None:
        """Make drafts of the offsets 2 .. K at the token before the last one, where the last forward ended.

        Each draft is appended to the row, so that heads that read the tokens in between (`sequential`, `hydra`) find them.
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
        """The most probable token, or one drawn with the numbers `uniform` `[1]`."""
        if uniform is None:
            return int(logits_BV.argmax(dim=-1))
        return int(draw(distribution(logits_BV, self.config.sampling), uniform))

    def _logits(self, tokens: list[int], offset: int) -> Tensor:
        """Float32 logits `[pos, d_vocab]` of one offset."""
        with torch.no_grad():
            return self.model(torch.tensor([tokens], device=self.device), (offset,))[0, :, 0].float()

    def _uniform(self, *shape: int) -> Tensor:
        """Uniform numbers `[1, *shape]` from [0, 1) for one row; zeros in greedy decoding, which does not use them."""
        if self.config.sampling.is_greedy:
            return torch.zeros(1, *shape, device=self.device)
        return torch.rand(1, *shape, generator=self.generator, device=self.device)
