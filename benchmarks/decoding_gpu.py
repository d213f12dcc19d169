"""Decoding on a GPU: a byte model of the 100M size is trained on Python code, and plain and speculative decoding are timed.

    python -m benchmarks.decoding_gpu --n-future 4 --seconds 400 [--path FOLDER] [--future-heads hydra]

Both ways of decoding use bfloat16, KV caches, compiled layers, one CUDA graph per forward and one attention kernel, on windows
of held-out files. Reported for each batch: seconds per forward of both, tokens per forward, acceptance, and two speed-ups:

- `speedup`: time of plain decoding divided by time of speculative decoding, for an equal number of tokens in every row. A batch
  ends when its slowest row ends.
- `steady_speedup`: ratio of tokens per second while all rows are being decoded, as if waiting prompts replaced rows that end:
  tokens per forward x seconds of a plain forward / seconds of a speculative one.

A small model repeats itself in greedy decoding, and repeated text is easy to draft. Therefore each line has the share of
repeated text (`repeated`: new bytes that end a sequence of sixteen bytes which occurred earlier in the row), and one pair
samples at temperature 0.8.
"""

import argparse
import json
import statistics
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from playground.config import SIZES, FutureHeads, ModelConfig, OptimConfig, RunConfig, TrainConfig, future_head_names
from playground.generation.config import DecodingConfig, Sampling
from playground.generation.decoder import Decoder
from playground.generation.marginal import candidate_hits, marginal_acceptance
from playground.generation.tree import best_tree
from playground.model.transformer import MTPTransformer
from playground.results import Decoding
from playground.results.decoding import acceptance
from playground.running.environment import describe_device, environment
from playground.training.evaluation import evaluate
from playground.training.loop import Clock, Member, TrainState, fit, start_state
from tasks.base import Task, seeded_generator
from tasks.byte_text import ByteTextConfig
from tasks.registry import make_task

N_CTX, PROMPT, NEW = 1024, 512, 384
BATCHES = (1, 8, 42)
SINGLES = 8
"""Prompts decoded one at a time for batch 1."""
REPEATS = 3
TREE_ROWS = 32


def config_of(size: str, n_future: int, future_heads: FutureHeads, path: str | None, seed: int) -> RunConfig:
    """The configuration that is trained."""
    layers, heads, width = (SIZES[size][name] for name in ("n_layers", "n_heads", "d_model"))
    return RunConfig(
        task=ByteTextConfig(n_ctx=N_CTX, path=path, suffixes=(".py",) if path else None),
        model=ModelConfig(
            n_layers=layers, n_heads=heads, d_model=width, n_future=n_future, control="trunk", future_heads=future_heads
        ),
        optim=OptimConfig(lr=1e-3, warmup_steps=100),
        train=TrainConfig(steps=10**6, batch_size=32, device="cuda"),
        seed=seed,
    )


def train(config: RunConfig, seconds: float) -> tuple[MTPTransformer, Task, dict[str, Any]]:
    """Train for about `seconds`: a few timed steps determine the number of steps and the schedule.

    Returns the model, its task and a row about the training.
    """
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    generator = seeded_generator(config.seed, "cuda")
    model = MTPTransformer(config.model, seeded_generator(config.seed)).to("cuda")
    for layer in (*model.blocks, *model.future_heads):
        layer.compile()
    began = time.perf_counter()
    state = start_state(model, replace(config, train=replace(config.train, steps=10)), generator)
    _fit(state, config, task, 10)
    torch.cuda.synchronize()
    started = time.perf_counter()
    _fit(state, config, task, 40)
    torch.cuda.synchronize()
    a_step = (time.perf_counter() - started) / 30
    steps = 40 + int((seconds - (time.perf_counter() - began)) / a_step)
    config = replace(config, train=replace(config.train, steps=steps))
    _fit(state, config, task, steps)
    torch.cuda.synchronize()
    trained = MTPTransformer(config.model).to("cuda")
    trained.load_state_dict(model.state_dict())  # without the compiled calls
    result = evaluate(trained, task)
    a_batch = config.train.batch_size * N_CTX
    return (
        trained,
        task,
        {
            "steps": steps,
            "bytes_seen": steps * a_batch,
            "seconds_a_step": round(a_step, 4),
            "bytes_a_second": round(a_batch / a_step),
            "test_bits_per_byte": round(result.scores[0].value, 4),
        },
    )


def _fit(state: TrainState, config: RunConfig, task: Task, until: int) -> None:
    steps = max(config.train.steps, until)
    state.clock = Clock()

    def sample() -> Any:
        return task.sample(config.train.batch_size, state.generator, "cuda")

    longer = replace(config, train=replace(config.train, steps=steps))
    member = Member(state=state, sample=sample, config=longer)
    fit([member], [state.pending.clear], lambda: state.step >= until)


def measure(model: MTPTransformer, task: Task, n_future: int) -> Iterator[dict[str, Any]]:
    """Rows of marginal acceptance, and for each batch size and each kind of drafts."""
    rows = task.test_batch(max(BATCHES) + SINGLES + TREE_ROWS).tokens[:, :PROMPT].tolist()
    prompts, others = rows[:-TREE_ROWS], rows[-TREE_ROWS:]
    plain = Decoder(model, DecodingConfig(max_new_tokens=NEW), dtype=torch.bfloat16, compiled=True)
    greedy = Decoder(model, DecodingConfig(max_new_tokens=128), dtype=torch.bfloat16, graphs=False).generate(others)
    texts = [[*row.prompt, *row.tokens] for row in greedy.decoded]
    marginal = marginal_acceptance(model, texts, [PROMPT] * TREE_ROWS)
    yield {"marginal_acceptance": [round(rate, 3) for rate in marginal.rate.tolist()]}
    hits = candidate_hits(model, texts, [PROMPT] * TREE_ROWS, 4)
    drafts = {"chain": DecodingConfig(max_new_tokens=NEW, speculative=n_future)}
    drafts |= {f"tree of {b} drafts": DecodingConfig(max_new_tokens=NEW, tree=best_tree(hits, b)) for b in (15,)}
    decoders = {name: Decoder(model, config, dtype=torch.bfloat16, compiled=True) for name, config in drafts.items()}
    singles = [[prompt] for prompt in prompts[:SINGLES]]
    for batch in BATCHES:
        groups = singles if batch == 1 else [prompts[:batch]]
        for name, decoder in decoders.items():
            yield {"drafts": name, "batch": batch, **_compare(plain, decoder, groups)}
    sampled = [
        Decoder(model, replace(config, sampling=Sampling(temperature=0.8)), dtype=torch.bfloat16, compiled=True)
        for config in (DecodingConfig(max_new_tokens=NEW), drafts["chain"])
    ]
    yield {"drafts": "chain, temperature 0.8", "batch": 1, **_compare(sampled[0], sampled[1], singles)}


def _compare(plain: Decoder, decoder: Decoder, groups: list[list[list[int]]]) -> dict[str, Any]:
    generator = seeded_generator(1, "cuda")
    for one in (plain, decoder):
        one.generate(groups[0], generator=generator)  # compiles and records
    found: dict[str, list[list[Decoding]]] = {"plain": [], "drafted": []}
    for _ in range(REPEATS):
        found["plain"].append([plain.generate(group, generator=generator) for group in groups])
        found["drafted"].append([decoder.generate(group, generator=generator) for group in groups])
    seconds = {name: [sum(one.decode_seconds for one in turn) for turn in turns] for name, turns in found.items()}
    forwards = {
        name: sum(max(row.forwards for row in one.decoded) for one in turns[0]) for name, turns in found.items()
    }
    a_forward = {name: statistics.median(seconds[name]) / forwards[name] for name in seconds}
    rows = [row for one in found["drafted"][0] for row in one.decoded]
    tokens = sum(row.emitted for row in rows) / sum(row.forwards for row in rows)
    speedups = [a / b for a, b in zip(seconds["plain"], seconds["drafted"], strict=True)]
    plain_rows = [row for one in found["plain"][0] for row in one.decoded]
    same = sum(a.tokens == b.tokens for a, b in zip(rows, plain_rows, strict=True))
    counts = acceptance([step for row in rows for step in row.steps[1:]], decoder.config.drafts.speculative)
    return {
        "speedup": round(statistics.median(speedups), 3),
        "spread": [round(min(speedups), 3), round(max(speedups), 3)],
        "steady_speedup": round(tokens * a_forward["plain"] / a_forward["drafted"], 3),
        "tokens_per_forward": round(tokens, 3),
        "ms_plain_forward": round(1e3 * a_forward["plain"], 4),
        "ms_drafted_forward": round(1e3 * a_forward["drafted"], 4),
        "conditional_acceptance": [round(rate, 3) for rate in counts.conditional.tolist()],
        "rows_with_the_same_tokens": f"{same} of {len(rows)}" if decoder.config.sampling.is_greedy else None,
        "repeated": round(statistics.mean(repeated(row.prompt, row.tokens) for row in rows), 3),
    }


def repeated(prompt: Sequence[int], tokens: Sequence[int], length: int = 16) -> float:
    """Share of new tokens that end a sequence of `length` tokens which occurred earlier in prompt and text together.

    >>> repeated([1, 2, 3], [1, 2, 3, 4], length=2)
    0.5
    """
    text, seen, count = [*prompt, *tokens], set[tuple[int, ...]](), 0
    for end in range(length, len(text) + 1):
        stretch = tuple(text[end - length : end])
        count += end > len(prompt) and stretch in seen
        seen.add(stretch)
    return count / len(tokens)


def main() -> int:
    """Train, measure, print one JSON object per line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding_gpu")
    parser.add_argument("--n-future", type=int, default=4)
    parser.add_argument("--future-heads", choices=future_head_names(), default="hydra")
    parser.add_argument("--size", choices=SIZES, default="100M")
    parser.add_argument("--seconds", type=float, default=400, help="of training")
    parser.add_argument("--path", default=sysconfig.get_paths()["purelib"], help="a folder of Python sources")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(json.dumps({"device": describe_device(torch.device("cuda"), 1), **environment(), **vars(given)}), flush=True)
    config = config_of(given.size, given.n_future, given.future_heads, given.path, given.seed)
    model, task, trained = train(config, given.seconds)
    print(json.dumps(trained), flush=True)
    for row in measure(model.eval(), task, given.n_future):
        print(json.dumps({"n_future": given.n_future, **row}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
