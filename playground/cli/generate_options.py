"""The options of `generate`, checks of their combinations, and the decoding that they configure."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from playground.cli.parsing import Json, RunName, RunsDir, Text
from playground.config import MOST_SEED, short_value
from playground.runs.record import default_runs_dir

if TYPE_CHECKING:
    from playground.generation.config import DecodingConfig, Sampling
    from playground.generation.tree import Tree
    from playground.running.decoding import LoadedRun

TREE_ROWS = 16
"""Number of test rows used to choose a tree; other rows than those that are decoded."""
BENCHMARK_PROMPTS = 8
MOST_NODES = 256
"""Most nodes of a tree, all of which go through the model in one forward."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """The options of `generate`."""

    run: RunName
    prompt: Annotated[str | None, arg(metavar="TEXT")] = None
    """Text to continue. By default rows of the task's test set, cut before their scored tokens."""
    samples: Annotated[int | None, arg(metavar="N")] = None
    """Number of texts: by default 1, with --benchmark 8, with --evaluate 256 windows or 100 expressions for each number of
    operations."""
    speculative: Annotated[int | None, arg(metavar="K")] = None
    """The offsets 2 .. K draft; by default all offsets of the run. 1 is plain decoding."""
    plain: bool = False
    """Plain decoding, one token per forward; equal to --speculative 1."""
    tree: Annotated[int | None, arg(metavar="NODES")] = None
    """Several drafts per offset: a tree of this many tokens (the last emitted token and drafts), chosen on other test rows."""
    max_new_tokens: Annotated[int | None, arg(metavar="N")] = None
    """Most new tokens; by default 64, for polynomials the length of an answer, but no more than fit."""
    temperature: Annotated[float | None, arg(metavar="T")] = None
    """Sample tokens; small values prefer probable tokens. Without it the most probable token is taken."""
    top_k: Annotated[int | None, arg(metavar="N")] = None
    """Sample only from the N most probable tokens."""
    top_p: Annotated[float | None, arg(metavar="P")] = None
    """Sample only from the most probable tokens that together have this probability."""
    seed: int = 0
    """Seed of the sampling."""
    typical: bool = False
    """Accept every draft that is probable enough: more drafts, but NOT the distribution of plain decoding."""
    slide: bool = False
    """When the context is full, drop its older half and continue."""
    stop: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT ...]")] = ()
    r"""Tokens that end the text, such as \n for bytes."""
    step: Annotated[int | None, arg(metavar="S")] = None
    """Stored step of the weights; the last one by default."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the model."""
    benchmark: bool = False
    """Measure every K, and trees of 16 and 32 nodes, at batch 1 and 8."""
    evaluate: bool = False
    """Score the tokens decoded for test rows: answers (polynomial), or continuations (bytes)."""
    text: Text = None
    runs_dir: RunsDir = field(default_factory=default_runs_dir)
    as_json: Json = False


# --- combinations of options ----------------------------------------------------------------------------------------


def check_options(given: Generate) -> None:
    """Raises ValueError for options that contradict each other or are out of range, for every run."""
    bounds = {
        "--samples": (given.samples, 1, 10**5),
        "--max-new-tokens": (given.max_new_tokens, 1, 10**6),
        "--speculative": (given.speculative, 1, 10**3),
        "--tree": (given.tree, 2, MOST_NODES),
        "--top-k": (given.top_k, 1, 10**7),
        "--step": (given.step, 0, 10**9),
        "--seed": (given.seed, 0, MOST_SEED),
    }
    for name, (value, least, most) in bounds.items():
        if value is not None and not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most}"
            raise ValueError(f"{name} is {short_value(value)}; write {bound}")
    drafts = _named_drafts(given)
    if len(drafts) > 1:
        why = ", and a tree itself defines the furthest offset" if drafts[-1] == "--tree" else ""
        raise ValueError(f"{' and '.join(drafts)} were both given{why}; leave one out")
    if given.typical and given.temperature is None:
        raise ValueError("--typical needs sampled text; write --temperature with it, such as --temperature 0.8")
    if given.typical and (given.plain or given.speculative == 1):
        raise ValueError("--typical needs drafts, and plain decoding has none; leave one out")
    if given.benchmark and given.evaluate:
        raise ValueError("--benchmark and --evaluate were both given; leave one out")
    if given.benchmark and drafts:
        raise ValueError(f"--benchmark tries every K and two trees; leave {drafts[0]} out")
    greedy = given.temperature is None
    if given.prompt is not None and (given.samples or 1) > 1 and greedy and not (given.benchmark or given.evaluate):
        raise ValueError("greedy decoding continues a prompt in one way; write --temperature, or leave --samples out")
    if given.evaluate:
        _check_evaluate(given)


def _named_drafts(given: Generate) -> list[str]:
    named = {"--plain": given.plain, "--speculative": given.speculative is not None, "--tree": given.tree is not None}
    return [name for name, is_given in named.items() if is_given]


def _check_evaluate(given: Generate) -> None:
    others = {
        "--prompt": given.prompt,
        "--temperature": given.temperature,
        "--top-k": given.top_k,
        "--top-p": given.top_p,
        "--max-new-tokens": given.max_new_tokens,
        "--slide": given.slide or None,
        "--stop": given.stop or None,
    }
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"--evaluate decodes test rows to their ends, greedily; leave {name} out")


def check_offsets(given: Generate, loaded: "LoadedRun") -> None:
    """Raises ValueError for options that need more offsets than the run has."""
    n_future, run = loaded.model.n_future, loaded.run.id
    wanted = {
        "--benchmark": given.benchmark,
        "--tree": given.tree is not None,
        "--typical": given.typical,
        "--speculative": (given.speculative or 1) > 1,
    }
    if n_future == 1 and any(wanted.values()):
        name = next(name for name, is_wanted in wanted.items() if is_wanted)
        raise ValueError(
            f"run {run} predicts the next token only and has no future heads to draft with; leave {name} out, or take a run "
            "with n_future of 2 or more"
        )
    if given.speculative is not None and given.speculative > n_future:
        raise ValueError(
            f"--speculative is {given.speculative}, and run {run} predicts the offsets 1 to {n_future}; write at most "
            f"{n_future}"
        )


def check_objective(given: Generate, loaded: "LoadedRun") -> None:
    """Raises ValueError for a way of decoding that does not suit the objective of the run."""
    from playground.training.objectives.registry import objective_of

    objective = objective_of(loaded.run.config.train)
    objective.check_decoding(drafts=False)
    if not given.plain and loaded.model.n_future > 1:
        try:
            objective.check_decoding(drafts=True)
        except ValueError as error:
            raise ValueError(f"{error}; write --plain") from None


# --- the decoding that they configure -------------------------------------------------------------------------------


def make_sampling(given: Generate) -> "Sampling":
    """The sampling settings. Raises ValueError for values out of range."""
    from playground.generation.config import Sampling

    return Sampling(temperature=given.temperature, top_k=given.top_k, top_p=given.top_p)


def make_prompts(given: Generate, loaded: "LoadedRun", count: int) -> list[list[int]]:
    """The prompt repeated `count` times, or `count` test rows. Raises ValueError for a text that the task cannot encode."""
    from playground.running.decoding import prompt_tokens, task_prompts

    if given.prompt is None:
        return task_prompts(loaded.task, count)
    return [prompt_tokens(loaded.task, given.prompt)] * count


def make_drafts(given: Generate, loaded: "LoadedRun") -> "Tree":
    """The tree of drafts for the options; without drafts in plain decoding."""
    from playground.generation.tree import chain

    if given.tree is not None:
        return tree_of(given.tree, given, loaded)
    return chain(1 if given.plain else given.speculative or loaded.model.n_future)


def tree_of(nodes: int, given: Generate, loaded: "LoadedRun") -> "Tree":
    """The best tree on the test rows after the decoded ones, or on the decoded ones if there are no others."""
    from playground.running.decoding import choose_tree, task_prompts

    first = given.samples or (BENCHMARK_PROMPTS if given.benchmark else 1)
    shown = 0 if given.prompt is not None or given.evaluate else first
    prompts = task_prompts(loaded.task, shown + TREE_ROWS)
    return choose_tree(loaded.model, prompts[shown:] or prompts, nodes, cached=loaded.cached)


def make_config(given: Generate, loaded: "LoadedRun", prompts: list[list[int]]) -> "DecodingConfig":
    """Configuration of plain decoding; `with_drafts` adds drafts. Raises ValueError if the context has too little room."""
    from playground.generation.config import DecodingConfig
    from playground.running.decoding import default_new_tokens, new_token_room

    n_ctx, longest = loaded.model.n_ctx, max(map(len, prompts))
    room, wanted = new_token_room(prompts, n_ctx), given.max_new_tokens or default_new_tokens(loaded.task)
    if longest > n_ctx and not given.slide:
        raise ValueError(
            f"the prompt has {longest} tokens, and the context of run {loaded.run.id} holds {n_ctx}; shorten it, or write "
            "--slide to continue from its end"
        )
    if wanted > room and given.max_new_tokens is not None and not given.slide:
        raise ValueError(
            f"a prompt of {longest} tokens leaves room for {room} new ones in a context of {n_ctx}, and {wanted} are "
            f"wanted; write --max-new-tokens {room} or less, or --slide"
        )
    return DecodingConfig(
        max_new_tokens=wanted if given.slide else min(wanted, room),
        sampling=make_sampling(given),
        stop=tuple(_stop_token(text, loaded) for text in given.stop),
        overflow="slide" if given.slide else "error",
    )


def with_drafts(config: "DecodingConfig", drafts: "Tree", given: Generate) -> "DecodingConfig":
    """`config` with drafts, and with the rule of their acceptance."""
    if not drafts.paths:
        return config
    rule = "typical" if given.typical else "exact"
    if drafts.is_chain:
        return dataclasses.replace(config, speculative=drafts.speculative, rule=rule)
    return dataclasses.replace(config, tree=drafts, rule=rule)


def _stop_token(text: str, loaded: "LoadedRun") -> int:
    """The token with this string, or else the token that the task encodes from the text, with \\n and \\t as escapes."""
    strings = loaded.task.token_strings(range(loaded.task.d_vocab))
    if text in strings:
        return strings.index(text)
    tokens = loaded.task.encode(text.replace("\\n", "\n").replace("\\t", "\t"))
    if len(tokens) != 1:
        said = " ".join(strings[token] for token in tokens)
        raise ValueError(f"--stop takes texts of one token each, and '{text}' has {len(tokens)}: {said}")
    return tokens[0]
