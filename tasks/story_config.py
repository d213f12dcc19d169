"""The configuration of the stories task. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from tasks.config import MOST_CONTEXT, MOST_SEED, MOST_VOCAB, TaskConfig, check_fields, check_test_size
from tasks.story_grammar import MAX_CAST

MOST_COUNT = 10_000
"""Bound of fields that count names, words, templates or sentences; fewer are available."""
MOST_STORIES, MOST_TEST_STORIES = 10**9, 100_000
"""Most stories that are read, and most in the test set."""
MOST_NUMBERS = 2**22
"""Most tokens in the test set: for each token of generated stories a hundred numbers are drawn."""


@dataclass(frozen=True, kw_only=True)
class StoriesConfig(TaskConfig):
    """Rows of `n_ctx` tokens with as many stories as fit, the last one cropped.

    By default 30% of the tokens are parts of names: two tokens per name, so a name at 15% of the positions. At `scenery` 0, 0.5
    and 1, 32%, 24% and 15% of the tokens are parts of names; the other fields have little influence on this.
    """

    name: ClassVar[str] = "stories"

    n_ctx: int = 128
    """Context length: tokens in one row. A story has 12.4 tokens per sentence, by default 112 in total, on average."""
    n_first_names: int = 64
    """First parts of names (each is one token)."""
    n_second_names: int = 64
    """Second parts of names. With more of them each is rarer, and induction forms later."""
    min_characters: int = 2
    """Fewest characters in a story. With `path`: the fewest that a test story must have."""
    max_characters: int = 4
    """Most characters in a story, up to 4; this number of second parts per first part is reserved for the test. No effect
    with `path`."""
    name_ambiguity: int | None = None
    """Number of second parts that can follow a first part in training: 1 is solved by a bigram, None (all) needs induction."""
    scenery: float = 0.1
    """Share of the middle sentences of a story that contain no name; it sets the density of names."""
    min_sentences: int = 6
    """Fewest sentences in a story."""
    max_sentences: int = 12
    """Most sentences in a story."""
    n_templates: int | None = None
    """Number of sentence templates used, None for all 189; fewer make the text simpler."""
    n_words: int | None = None
    """Number of words used of each word list, None for all (up to 52)."""
    test_stories: int = 100
    """Stories in the fixed test set, one per row (the paper's number)."""
    test_seed: int = 1_000_003
    """Seed of the fixed test set."""
    path: str | None = None
    """A .txt file, or a folder of them, of real stories in UTF-8 with `<|endoftext|>` between them. The fields about names,
    sentences, templates and words then have no effect."""
    bpe_vocab: int = 2048
    """With `path`: size of the byte-level BPE vocabulary that is trained on the training stories."""
    max_stories: int | None = None
    """With `path`: number of stories that are read, None for all."""

    def __post_init__(self) -> None:
        count = (1, MOST_COUNT)
        check_fields(
            self,
            n_ctx=(16, MOST_CONTEXT),
            n_first_names=count,
            n_second_names=count,
            min_characters=count,
            max_characters=count,
            name_ambiguity=(0, MOST_COUNT),
            scenery=(0, 1),
            min_sentences=count,
            max_sentences=count,
            n_templates=count,
            n_words=count,
            test_stories=(1, MOST_TEST_STORIES),
            test_seed=(-MOST_SEED, MOST_SEED),
            bpe_vocab=(300, MOST_VOCAB),
            max_stories=(10, MOST_STORIES),
        )
        _check_names(self)
        _check_stories(self)
        check_test_size("test_stories", self.test_stories, self.n_ctx, MOST_NUMBERS)

    @property
    def reads_text(self) -> bool:
        return self.path is not None


def _check_names(config: StoriesConfig) -> None:
    least, most, n_first, n_second = (
        config.min_characters,
        config.max_characters,
        config.n_first_names,
        config.n_second_names,
    )
    if not 2 <= least <= most <= MAX_CAST:
        raise ValueError(
            f"min_characters {least} and max_characters {most} do not make a cast; "
            f"write 2 <= min_characters <= max_characters <= {MAX_CAST}"
        )
    for field, count in (("n_first_names", n_first), ("n_second_names", n_second)):
        if count < 2 * most:
            raise ValueError(f"{field} is {count}, too few for {most} different characters; write at least {2 * most}")
    free = n_second - most
    low = -(-n_second // n_first)
    if config.name_ambiguity is not None and not low <= config.name_ambiguity <= free:
        raise ValueError(
            f"name_ambiguity is {config.name_ambiguity}; with {n_first} first and {n_second} second names write {low} "
            f"(so that each second name occurs) to {free} (the others are reserved for the test), or None for all {free}"
        )


def _check_stories(config: StoriesConfig) -> None:
    if not config.max_characters < config.min_sentences <= config.max_sentences:
        raise ValueError(
            f"min_sentences {config.min_sentences} and max_sentences {config.max_sentences} do not fit; "
            f"write max_characters < min_sentences <= max_sentences, since a story of {config.max_characters} "
            f"characters needs {config.max_characters} sentences to introduce them and to end, and one between"
        )
    kinds = 4 + (config.scenery > 0)
    if config.n_templates is not None and config.n_templates < kinds:
        raise ValueError(
            f"n_templates is {config.n_templates}; write at least {kinds}, one for each part of a story, or None for all"
        )
