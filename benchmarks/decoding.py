"""Speculative decoding against plain cached decoding of one model, batch and precision, timed alternately.

First, lines for trained models with n = 4 and 8 of the preset `decoding-cpu` (`decoding-gpu` on CUDA): held-out bytes, greedy.
They use a finished run in the runs folder. If there is none, `--only decoding` trains one first, which takes a quarter of an
hour each; the run of all benchmarks skips it with a message. Then lines for ways to compute drafts with independent future
heads: one by one at every token, one by one for the last committed token, and, as in the engine, as one batched layer for that
token. These models have random weights, because the time depends only on shapes.

Targets on two CPU cores: 1.8 for n = 4, 2.2 for n = 8, at batch 1.
"""

import functools
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import in_turns, ratio
from playground.config import Control, ModelConfig, RunConfig
from playground.generation.cache import cached_block
from playground.generation.config import DecodingConfig
from playground.generation.decoder import Decoder
from playground.generation.drafters import LayersAtOnce
from playground.generation.drafting import Choose, Commit, MakeView, final_logits
from playground.generation.engine import Engine
from playground.generation.stacked import StackedBlocks
from playground.generation.tree import chain
from playground.model.layers import Block
from playground.model.transformer import MTPTransformer
from playground.running.decoding import choose_tree, measure_decoding, task_prompts
from playground.running.presets import make_config
from playground.running.runner import train
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, list_runs
from tasks.base import seeded_generator
from tasks.registry import make_task

TARGETS = {4: 1.8, 8: 2.2}
PROMPTS, NEW_TOKENS, TREE, REPEATS = 8, 128, 12, 3
SHAPES: tuple[tuple[int, int, Control], ...] = ((10, 8, "layers"), (5, 4, "trunk"), (10, 8, "trunk"))
"""n_layers, n_future and control of the models with which drafting is timed."""


def run(device: str, train_first: bool) -> Iterator[dict[str, Any]]:
    """A line for each n and batch, then one for each shape."""
    preset = "decoding-gpu" if device == "cuda" else "decoding-cpu"
    for n_future in TARGETS:
        config = make_config(preset, n_future=n_future)
        stored = _stored(config)
        if stored is None and not train_first:
            missing = f"no finished run of {preset} with n = {n_future} is stored; --only decoding trains it first"
            yield {"benchmark": "decoding", "n_future": n_future, "skipped": missing}
            continue
        if stored is None:
            print(f"{config.label()} is trained first: the folder of runs has no finished one.", file=sys.stderr)
            stored = train(config, default_runs_dir())
        yield from _trained(stored, device)
    for shape in SHAPES:
        yield _drafting(*shape, device)


def _stored(config: RunConfig) -> Run | None:
    """The first finished run of this configuration."""
    task = make_task(config.task)
    wanted = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx).hash()
    for run in list_runs(default_runs_dir())[0]:
        if run.record.state == "finished" and run.record.config_hash == wanted and run.checkpoints:
            return run
    return None


def _trained(stored: Run, device: str) -> Iterator[dict[str, Any]]:
    model, n_future = stored.model().to(device).eval(), stored.record.n_future
    prompts = task_prompts(stored.task, PROMPTS)
    tree = choose_tree(model, task_prompts(stored.task, 2 * PROMPTS)[PROMPTS:], TREE)
    for drafts, batch in (("chain", 1), ("tree", 1), ("chain", PROMPTS)):
        config = DecodingConfig(max_new_tokens=NEW_TOKENS, tree=tree if drafts == "tree" else chain(n_future))
        speed = measure_decoding(model, prompts, config, REPEATS, batch=batch)
        low, high = speed.spread
        yield {
            "benchmark": "decoding",
            "run": stored.id,
            "n_future": n_future,
            "drafts": drafts,
            "nodes": speed.nodes,
            "batch": batch,
            "ratio": round(speed.speedup, 3),
            "ratio_lowest": round(low, 3),
            "ratio_highest": round(high, 3),
            "target": TARGETS[n_future] if batch == 1 else None,
            "tokens_per_forward": round(speed.tokens_per_forward, 3),
            "by_parts": round(speed.speedup_by_parts, 3),
            "same_text": speed.identical,
            "ms_plain_forward": round(1e3 * speed.plain_seconds_per_forward, 3),
            "ms_drafted_forward": round(1e3 * speed.speculative_seconds_per_forward, 3),
            "conditional_acceptance": [round(rate, 3) for rate in speed.acceptance.conditional.tolist()],
            "marginal_acceptance": [round(rate, 3) for rate in speed.marginal.rate.tolist()],
        }


class OneByOne(LayersAtOnce):
    """The simplest drafter for independent heads: each runs separately, at every token of the forward."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        seen, found = view(commit.slots, not commit.prefill), []
        for k in self.offsets:
            head = self.model.future_heads[k - 1]
            assert isinstance(head, Block)
            resid = cached_block(head, commit.streams[-1], seen, self.cache.keys[k - 2], self.cache.values[k - 2])
            found.append(commit.at_last(final_logits(self.model, resid, k)))
        return torch.stack(found, dim=1)


class OneByOneLast(LayersAtOnce):
    """A drafter that runs each head separately, for the last committed token."""

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        write, read, found = view(commit.slots, False), view(commit.last[:, None], True), []
        for place, stack in enumerate(self.single):
            cached = (self.cache.keys[place, None], self.cache.values[place, None])
            (resid,) = stack.last(commit.streams[-1], commit.place, write, read, cached, fresh=commit.prefill)
            found.append(final_logits(self.model, resid, self.offsets[place]))
        return torch.stack(found, dim=1)

    @functools.cached_property
    def single(self) -> list[StackedBlocks]:
        heads = [self.model.future_heads[k - 1] for k in self.offsets]
        return [StackedBlocks([head]) for head in heads if isinstance(head, Block)]


class Drafting(Decoder):
    """A decoder with a chosen drafter for independent heads."""

    drafter: type[LayersAtOnce] = LayersAtOnce

    def make_engine(self, rows: int) -> Engine:
        engine = super().make_engine(rows)
        if isinstance(engine.drafter, LayersAtOnce):
            engine.drafter.__class__ = self.drafter
        return engine


def _drafting(n_layers: int, n_future: int, control: Control, device: str) -> dict[str, Any]:
    """A row with the time of one forward for each way of drafting, and without drafts."""
    config = ModelConfig(
        n_layers=n_layers, n_heads=4, d_model=128, n_future=n_future, control=control, d_vocab=256, n_ctx=256
    )
    model = MTPTransformer(config, seeded_generator(0)).to(device).eval()
    prompt = torch.randint(256, (1, 64), generator=seeded_generator(1)).tolist()

    def decode(drafter: type[LayersAtOnce], speculative: int | None = n_future) -> Callable[[], int]:
        decoder = Drafting(model, DecodingConfig(max_new_tokens=96, speculative=speculative), graphs=False)
        decoder.drafter = drafter
        return lambda: decoder.generate(prompt).decoded[0].forwards

    works = {
        "plain": decode(LayersAtOnce, None),
        "one by one, every token": decode(OneByOne),
        "one by one, last token": decode(OneByOneLast),
        "batched, last token": decode(LayersAtOnce),
    }
    counts = {name: work() for name, work in works.items()}
    times = in_turns(works, device, 7, warmup=1)
    each = {name: [spent / counts[name] for spent in spents] for name, spents in times.items()}
    return {
        "benchmark": "drafting",
        "n_layers": n_layers,
        "n_future": n_future,
        "control": control,
        "next_token_depth": config.next_token_depth,
        "ms_a_forward": {name: round(1e3 * statistics.median(spent), 3) for name, spent in each.items()},
        "over_plain": {name: ratio(spent, each["plain"])["ratio"] for name, spent in each.items()},
    }
