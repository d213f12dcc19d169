"""`generate`: continue text with a stored run, measure the speed, or score the decoded text."""

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tyro.conf import FlagCreatePairsOff

from playground.cli.generate_options import (
    BENCHMARK_PROMPTS,
    Generate,
    check_objective,
    check_offsets,
    check_options,
    make_config,
    make_drafts,
    make_prompts,
    make_sampling,
    tree_of,
    with_drafts,
)
from playground.cli.parsing import parse
from playground.results import Decoding, DecodingSpeed, Row
from playground.runs.store import find_run
from playground.terminal import result_table, rows_table, say

if TYPE_CHECKING:
    import torch

    from playground.generation.config import DecodingConfig
    from playground.generation.tree import Tree
    from playground.running.decoding import LoadedRun

DESCRIPTION = (
    "Continue text with a stored run, and show each token in the colour of the offset that drafted it. Drafts are used if the "
    "run has future heads for them: offset 1 verifies them, so that the text equals that of plain decoding. The text goes to "
    "stdout; forwards, acceptance and the speed-up over plain decoding go to stderr."
)
TREES = (16, 32)
"""Nodes of the trees of the benchmark."""
BATCHES = (1, 8)
MOST_REPEATS = 15
PATIENCE = 1.0
"""Seconds for the timing repeats of each way of decoding after a text; a single repeat may take longer."""
LEFT_OUT = ("K", "nodes")
"""Columns that the benchmark does not show, because the names of its rows contain them."""


def generate_command(argv: list[str]) -> int:
    """Continue text with a stored run."""
    given: Generate = parse(Generate, argv, "generate", description=DESCRIPTION, config=(FlagCreatePairsOff,))
    check_options(given)
    found = find_run(given.run, given.runs_dir, text=given.text)

    from playground.running.decoding import load_for_decoding

    make_sampling(given)
    loaded = load_for_decoding(found, given.step, device=given.device)
    check_offsets(given, loaded)
    check_objective(given, loaded)
    _ = found.task  # errors of opening the task come before the notes below
    record = found.record
    if record.state != "finished":
        say(
            f"run {found.id} is {record.state} at step {record.step:,} of {record.steps:,}; taken is step {loaded.step:,}"
        )
    if not loaded.cached:
        say(f"run {found.id} was trained with clamped patterns, which decoding keeps: without a cache, and slowly")
    if given.evaluate:
        return _evaluate(given, loaded)
    return _benchmark(given, loaded) if given.benchmark else _texts(given, loaded)


# --- text -----------------------------------------------------------------------------------------------------------


def _texts(given: Generate, loaded: "LoadedRun") -> int:
    """Decode one prompt after another: the text while it grows, then a line with forwards, acceptance and speed."""
    from tasks.base import seeded_generator

    prompts = make_prompts(given, loaded, given.samples or 1)
    plain = [make_config(given, loaded, [prompt]) for prompt in prompts]
    drafts = make_drafts(given, loaded)
    greedy = given.temperature is None
    generator = None if greedy else seeded_generator(given.seed, loaded.model.W_E.device)
    for number, (prompt, config) in enumerate(zip(prompts, plain, strict=True), start=1):
        if len(prompts) > 1 and not given.as_json:
            say(f"sample {number} of {len(prompts)}")
        _text(given, loaded, prompt, with_drafts(config, drafts, given), generator)
    return 0


def _text(
    given: Generate,
    loaded: "LoadedRun",
    prompt: list[int],
    config: "DecodingConfig",
    generator: "torch.Generator | None",
) -> None:
    from playground.cli.streaming import Screen, say_outcome
    from playground.generation.generate import generate

    screen = None if given.as_json else Screen(loaded.task.decode, prompt, config.max_new_tokens, config.stop)
    on_step = screen.step if screen is not None else None
    decoding = generate(loaded.model, [prompt], config, generator=generator, cached=loaded.cached, on_step=on_step)
    if screen is not None:
        screen.end()
    speed = _measure_again(loaded, prompt, config, decoding, given.seed)
    if given.as_json:
        print(_text_as_json(loaded, decoding, speed), flush=True)
    else:
        say_outcome(decoding, speed)


def _measure_again(
    loaded: "LoadedRun", prompt: list[int], config: "DecodingConfig", decoding: Decoding, seed: int
) -> DecodingSpeed | None:
    """The speed-up with this prompt, timed without output to the screen; None if there is nothing to compare."""
    from playground.running.decoding import measure_decoding

    if decoding.speculative == 1 or not decoding.decoded[0].forwards:
        return None
    if not config.sampling.is_greedy:
        config = dataclasses.replace(config, max_new_tokens=len(decoding.decoded[0].tokens))
    repeats = max(1, min(MOST_REPEATS, int(PATIENCE / max(decoding.decode_seconds, 1e-9))))
    return measure_decoding(loaded.model, [prompt], config, repeats, seed=seed, cached=loaded.cached)


def _text_as_json(loaded: "LoadedRun", decoding: Decoding, speed: DecodingSpeed | None) -> str:
    row, task = decoding.decoded[0], loaded.task
    values = {
        "run": loaded.run.id,
        "step": loaded.step,
        "prompt": task.decode(row.prompt),
        "text": task.decode(row.tokens),
        "strings": task.token_strings(row.tokens),
        "tokens_per_forward": decoding.tokens_per_forward if row.forwards else None,
        "acceptance": decoding.acceptance.rows(),
        "speed": None if speed is None else speed.summary(),
        "decoding": decoding.to_dict(),
    }
    return json.dumps(values, allow_nan=False)


# --- tables ---------------------------------------------------------------------------------------------------------


def _benchmark(given: Generate, loaded: "LoadedRun") -> int:
    """Time every way of drafting at every batch size, against plain decoding of the same prompts."""
    from playground.running.decoding import measure_decoding

    prompts = make_prompts(given, loaded, given.samples or BENCHMARK_PROMPTS)
    plain = make_config(given, loaded, prompts)
    rows: list[Row] = []
    where = ""
    for name, drafts in _all_drafts(given, loaded):
        config = with_drafts(plain, drafts, given)
        for batch in sorted({min(batch, len(prompts)) for batch in BATCHES}):
            speed = measure_decoding(loaded.model, prompts, config, batch=batch, seed=given.seed, cached=loaded.cached)
            where = f"{speed.device}, {speed.dtype}"
            rows += [{"drafts": name} | {key: row[key] for key in row if key not in LEFT_OUT} for row in speed.rows()]
            if given.as_json:
                values = {"run": loaded.run.id, "step": loaded.step, "drafts": name} | speed.summary()
                print(json.dumps(values, allow_nan=False), flush=True)
            else:
                say(f"{name}, batch {batch}: {speed.speedup:.2f} times as fast as plain decoding")
    if not given.as_json:
        rows_table(rows, *_heading(loaded, len(prompts), plain.max_new_tokens, where))
    return 0


def _heading(loaded: "LoadedRun", prompts: int, new_tokens: int, where: str) -> tuple[str, str]:
    of = f"{prompts} prompt{'s' if prompts > 1 else ''}"
    return (
        f"Decoding with {loaded.run.id}, step {loaded.step:,}: {of}, {new_tokens} new tokens each, {where}.",
        "Acceptance of the offsets from 2 on in percent; ms per forward; speed-up over plain decoding, and whether the text is "
        "the same",
    )


def _all_drafts(given: Generate, loaded: "LoadedRun") -> Iterator[tuple[str, "Tree"]]:
    from playground.generation.tree import chain

    for speculative in range(2, loaded.model.n_future + 1):
        yield f"K = {speculative}", chain(speculative)
    for nodes in TREES:
        yield f"tree {nodes}", tree_of(nodes, given, loaded)


def _evaluate(given: Generate, loaded: "LoadedRun") -> int:
    """Score the text decoded for the task's test rows."""
    from playground.running.decoded_scores import score_decoded

    measured = score_decoded(loaded, make_drafts(given, loaded), given.samples)
    if given.as_json:
        print(json.dumps({"run": loaded.run.id, "step": loaded.step} | measured.to_dict(), allow_nan=False))
        return 0
    how = "plain decoding" if measured.speculative == 1 else f"drafts up to offset {measured.speculative}"
    result_table(
        measured,
        f"Decoded with {loaded.run.id}, step {loaded.step:,}: {how}, {measured.tokens_per_forward:.2f} tokens per forward",
    )
    return 0
