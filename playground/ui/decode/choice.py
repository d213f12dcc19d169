"""Controls of the page Decode: runs, prompt, drafts, and how tokens are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from playground.analysis.groups import Group
from playground.generation.config import DecodingConfig, Sampling
from playground.runs.store import Run
from playground.ui.decode.data import TREE_PROMPTS, n_samples, sample_prompt, tree_of, usual_length
from playground.ui.shared.models import Loaded, load_stored
from playground.ui.shared.text import plain
from playground.ui.shared.two_runs import run_name, titles

ALONE = "none"
SOURCES = ("Test set", "Own text")
MOST_SAMPLES = 64
MOST_NEW_TOKENS = 512
NODES, MOST_NODES = 16, 64
DRAFTS = {"chain": "One per offset", "tree": "A tree"}
DRAFTS_HELP = (
    "**One per offset**: each future head from offset 2 on drafts its likeliest token; together they form a chain. **A tree**: "
    "several candidates per offset, so that a second or third choice can be accepted too; one forward verifies all of them."
)
CHOICES = {"greedy": "Likeliest (greedy)", "sampled": "Drawn at random"}
TYPICAL_HELP = (
    "Also accepts drafts that are merely probable enough (Cai et al. 2024). More drafts are accepted, but the text no longer "
    "has the distribution of plain decoding."
)
SLIDE_HELP = (
    "When the context is full its older half is dropped, and decoding goes on with the rest. Off: decoding ends where the "
    "context does."
)


@dataclass(frozen=True, kw_only=True)
class DecodingModel:
    """A model on the page."""

    title: str
    run: Run
    loaded: Loaded

    @property
    def n_future(self) -> int:
        return self.loaded.model.n_future

    @property
    def cached(self) -> bool:
        """Whether it can be decoded with a KV cache; clamped attention needs the whole context in every forward."""
        return not self.run.config.clamp.changes_patterns


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Decoding settings, for all models on the page."""

    new_tokens: int
    speculative: int
    """K: the offsets 2 .. K draft; a model with fewer offsets uses all that it has."""
    nodes: int | None
    """Tokens of a tree, with a depth chosen from acceptance rates; None: one draft per offset."""
    sampling: Sampling
    seed: int
    typical: bool
    slide: bool


def choose_models(runs: Sequence[Run], groups: Mapping[str, Group]) -> list[DecodingModel]:
    """One or two models; the page says why a model cannot be opened."""
    newest_first = list(runs)[::-1]
    names = {run.id: run_name(run, groups[run.id]) for run in newest_first}
    by_id = {run.id: run for run in newest_first}
    places = st.columns(2)
    ids = list(by_id)
    drafting = [run.id for run in newest_first if run.record.n_future > 1]
    first = places[0].selectbox(
        "Run", ids, index=ids.index((drafting or ids)[0]), format_func=names.__getitem__, key="decode-run"
    )
    second = places[1].selectbox(
        "Beside it",
        [ALONE, *ids],
        format_func=lambda name: names.get(name, "no other run"),
        key="decode-beside",
        help="Another run on the same prompt: another n, another seed or control, or the same run at another step.",
    )
    chosen: list[tuple[Run, int]] = []
    for side, place, name in (("run", places[0], first), ("beside", places[1], second)):
        if name not in by_id:
            continue
        pair = (by_id[name], _choose_step(place, by_id[name], side))
        if pair not in chosen:
            chosen.append(pair)
    return _load(chosen, groups)


def choose_prompts(shown: Sequence[DecodingModel]) -> list[tuple[int, ...] | None]:
    """The prompt of each model, encoded by its own task; None if the text is no valid prompt, and the page says why."""
    task = shown[0].loaded.task
    place = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    source = place.segmented_control(
        "Prompt from", SOURCES, default=SOURCES[0], required=True, key="decode-source", persist_state="session"
    )
    if source == SOURCES[1]:
        text = st.text_area(
            "Prompt",
            task.decode(sample_prompt(task, 0)),
            key=f"decode-text-{task.config.name}",
            height=88,
            persist_state="session",
            help="Write it as this task writes its tokens; start from the example. Then press Ctrl + Enter.",
        )
        return _typed(shown, text)
    most = n_samples(task, MOST_SAMPLES)
    number = place.number_input(
        "Sample",
        1,
        most,
        1,
        key="decode-sample",
        persist_state="session",
        width=160,
        help=f"The first {most} rows of the test set, each cut before the first token that the task scores, or at half. "
        "Minus and plus go to the previous and the next row.",
    )
    prompts = [sample_prompt(item.loaded.task, int(number) - 1) for item in shown]
    if len(set(prompts)) > 1:
        st.info(
            "The tasks of these two runs are configured differently, so each run continues a row of its own.",
            icon=":material/info:",
        )
    return list(prompts)


def choose_settings(shown: Sequence[DecodingModel]) -> Settings:
    """Controls for length, drafts and the choice of tokens."""
    most = max(item.n_future for item in shown)
    task = shown[0].loaded.task
    place = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    new_tokens = place.number_input(
        "New tokens",
        1,
        MOST_NEW_TOKENS,
        usual_length(task),
        key=f"decode-new-{task.config.name}",
        persist_state="session",
        width=140,
    )
    speculative, nodes = _choose_drafts(place, most) if most > 1 else (1, None)
    slide = place.toggle("Sliding context", key="decode-slide", persist_state="session", help=SLIDE_HELP)
    sampling, seed, typical = _choose_sampling(drafting=most > 1)
    return Settings(
        new_tokens=int(new_tokens),
        speculative=speculative,
        nodes=nodes,
        sampling=sampling,
        seed=seed,
        typical=typical,
        slide=slide,
    )


def room(item: DecodingModel, prompt: Sequence[int], settings: Settings) -> int:
    """New tokens that fit: the wanted number if the context slides; none if the prompt is too long."""
    if settings.slide:
        return settings.new_tokens
    return max(0, min(settings.new_tokens, item.loaded.model.n_ctx + 1 - len(prompt)))


def config_for(item: DecodingModel, settings: Settings, new_tokens: int) -> DecodingConfig:
    """The settings of `generate` for one model."""
    speculative = min(settings.speculative, item.n_future)
    tree = None
    if speculative > 1 and settings.nodes is not None:
        with st.spinner("Choosing the tree"):
            tree = tree_of(item.loaded, settings.nodes, cached=item.cached)
    return DecodingConfig(
        max_new_tokens=new_tokens,
        sampling=settings.sampling,
        speculative=speculative if speculative > 1 and tree is None else None,
        tree=tree,
        rule="typical" if settings.typical and speculative > 1 else "exact",
        overflow="slide" if settings.slide else "error",
    )


def _choose_step(place: DeltaGenerator, run: Run, side: str) -> int:
    steps = run.checkpoints
    if len(steps) == 1:
        return steps[0]
    return place.select_slider("Stored step", steps, steps[-1], key=f"decode-step-{side}-{run.id}")


def _load(chosen: Sequence[tuple[Run, int]], groups: Mapping[str, Group]) -> list[DecodingModel]:
    names = [f"{groups[run.id].label}, seed {run.record.seed}" for run, _ in chosen]
    called = titles(names, [step for _, step in chosen], [run.id for run, _ in chosen])
    found: list[DecodingModel] = []
    for (run, step), title in zip(chosen, called, strict=True):
        loaded = load_stored(run, step)
        if loaded is not None:
            found.append(DecodingModel(title=title, run=run, loaded=loaded))
    return found


def _typed(shown: Sequence[DecodingModel], text: str) -> list[tuple[int, ...] | None]:
    prompts: list[tuple[int, ...] | None] = []
    problems: list[str] = []
    for item in shown:
        try:
            prompts.append(tuple(item.loaded.task.encode(text)))
        except ValueError as error:
            prompts.append(None)
            problems.append(str(error))
    for problem in dict.fromkeys(problems):
        st.warning(f"This text cannot be a prompt: {plain(problem)}.", icon=":material/edit:")
    return prompts


def _choose_drafts(place: DeltaGenerator, most: int) -> tuple[int, int | None]:
    """K, and the size of the tree, or None for one draft per offset."""
    drafts = place.segmented_control(
        "Drafts",
        list(DRAFTS),
        default="chain",
        required=True,
        format_func=DRAFTS.__getitem__,
        key="decode-drafts",
        persist_state="session",
        help=DRAFTS_HELP,
    )
    if drafts == "tree":
        nodes = place.number_input(
            "Tokens in the tree",
            2,
            MOST_NODES,
            NODES,
            key="decode-nodes",
            persist_state="session",
            width=160,
            help="The token written last and its drafts, all in the input of one forward. The tree is the one with the highest "
            f"acceptance on {TREE_PROMPTS} test prompts.",
        )
        return most, int(nodes)
    speculative = place.segmented_control(
        "Largest drafting offset, K",
        list(range(2, most + 1)),
        default=most,
        required=True,
        key=f"decode-k-{most}",
        persist_state="session",
        help="The offsets 2 to K draft, and a forward writes 1 to K tokens. A run with fewer offsets uses all that it has.",
    )
    return int(speculative or most), None


def _choose_sampling(*, drafting: bool) -> tuple[Sampling, int, bool]:
    place = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    choice = place.segmented_control(
        "Next token",
        list(CHOICES),
        default="greedy",
        required=True,
        format_func=CHOICES.__getitem__,
        key="decode-choice",
        persist_state="session",
    )
    if choice != "sampled":
        return Sampling(), 0, False
    temperature = place.number_input(
        "Temperature",
        0.05,
        5.0,
        0.8,
        0.05,
        key="decode-temperature",
        persist_state="session",
        width=140,
        help="Logits are divided by it: below 1 the likely tokens become likelier.",
    )
    top_k = place.number_input(
        "Top-k",
        0,
        1000,
        0,
        key="decode-top-k",
        persist_state="session",
        width=130,
        help="Only the k likeliest tokens are drawn from; 0: all tokens.",
    )
    top_p = place.number_input(
        "Top-p",
        0.05,
        1.0,
        1.0,
        0.05,
        key="decode-top-p",
        persist_state="session",
        width=130,
        help="Only the likeliest tokens that together reach this probability are drawn from; 1: all tokens.",
    )
    seed = place.number_input("Seed", 0, 9999, 0, key="decode-seed", persist_state="session", width=130)
    typical = drafting and place.toggle(
        "Typical acceptance (not exact)", key="decode-typical", persist_state="session", help=TYPICAL_HELP
    )
    sampling = Sampling(temperature=temperature, top_k=int(top_k) or None, top_p=top_p if top_p < 1 else None)
    return sampling, int(seed), typical
