"""Children's stories whose characters have two-token names: the induction task of Gloeckle et al. 2024, section 4.1.

The first part of a name says who is meant; the second part is then known only from an earlier mention. So the score is
the accuracy on SECOND PARTS FROM THE SECOND MENTION ON, in stories whose names (pairs of parts) never occur in training.
Worked row, two stories (one word or part of a name a token; a name reads as one word, Borin):

    position    0    1    2    3    4    5    6    7    8    9   10   11   12   13   14   15   16   17   18
    tokens     Bo  rin  met   Mi   ra    .   Mi   ra hugged Bo  rin    . <end>  Bo   ra  met   Lu  rin    .
    documents   0    0    0    0    0    0    0    0    0    0    0    0    0    1    1    1    1    1    1
    scored      .    .    .    .    .    .    .    x    .    .    x    .    .    .    .    .    .    .    .

In a story no two characters share a first or a second part, and rows start with a story, so the first part and one
earlier mention in the row determine the second part: the ceiling is 1. Guessing among the story's characters is chance.

`name_ambiguity` says how many second parts can follow a first part in training. At 1 a bigram suffices there, and no head
need look back; the pairs of the test are then wrong for the bigram by construction, so that a model with nothing but the
bigram scores about 0, below chance. With None every pair occurs but those kept for the test (`tasks/story_names.py` says
which), and the row alone decides. `evaluate(full=True)` adds the same score for names from training, which tells the two apart.

With `path` the stories are real ones (`tasks/story_corpus.py`), their test copies renamed as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from tasks.base import Batch, Device, Evaluation, Predict, Score, TaskConfig
from tasks.scoring import teacher_forced
from tasks.story_corpus import CorpusStories
from tasks.story_grammar import MAX_CAST, build_grammar
from tasks.story_names import NameRules
from tasks.story_sampler import GeneratedStories, Layout
from tasks.targets import IGNORED, score_targets

_TEST_ROWS = 32
"""Test rows in one forward."""


@dataclass(frozen=True, kw_only=True)
class StoriesConfig(TaskConfig):
    """Stories of `n_ctx` tokens a row: as many as fit, the last one cropped.

    By default 30% of the tokens are parts of names: two tokens a name, so a name at 15% of the positions. It is 32%, 24% and
    15% of the tokens at `scenery` 0, 0.5 and 1; the other fields hardly change it.
    """

    name: ClassVar[str] = "stories"

    n_ctx: int = 128
    """Context length: tokens in one row. A story has 12.4 tokens a sentence, by default 112 in all, on average."""
    n_first_names: int = 64
    """First parts of names (each is one token)."""
    n_second_names: int = 64
    """Second parts of names. The more there are, the rarer each one is, and the later induction forms."""
    min_characters: int = 2
    """Fewest characters in a story. With `path`: the fewest that a test story must have."""
    max_characters: int = 4
    """Most characters in a story, 4 at most; so many second parts per first part are kept for the test. With `path` it has
    no effect."""
    name_ambiguity: int | None = None
    """How many second parts can follow a first part in training: 1 is solved by a bigram, None (all) needs induction."""
    scenery: float = 0.1
    """Share of the sentences in the middle of a story that name nobody: it sets the density of names (see above)."""
    min_sentences: int = 6
    """Fewest sentences in a story."""
    max_sentences: int = 12
    """Most sentences in a story."""
    n_templates: int | None = None
    """How many sentence templates are used, None for all 189: fewer make a simpler background."""
    n_words: int | None = None
    """How many words of each word list are used, None for all (up to 52)."""
    test_stories: int = 100
    """Stories in the fixed test set, one a row (the paper's number)."""
    test_seed: int = 1_000_003
    """Seed of the fixed test set."""
    path: str | None = None
    """A .txt file, or a folder of them, of real stories in UTF-8 with `<|endoftext|>` between them. The fields about names,
    sentences, templates and words then have no effect."""
    bpe_vocab: int = 2048
    """With `path`: size of the byte-level BPE vocabulary that is trained on the training stories."""
    max_stories: int | None = None
    """With `path`: how many stories are read, None for all."""

    def __post_init__(self) -> None:
        _check_names(self)
        _check_stories(self)
        if self.bpe_vocab < 300:
            raise ValueError(f"bpe_vocab is {self.bpe_vocab}, of which 257 are single bytes; write at least 300")
        if self.max_stories is not None and self.max_stories < 10:
            raise ValueError(f"max_stories is {self.max_stories}; write at least 10, or None for all")


@runtime_checkable
class StorySource(Protocol):
    """Where stories come from: the grammar or real text."""

    @property
    def d_vocab(self) -> int: ...

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch: ...

    def test_set(self, count: int, seed: int) -> Batch: ...

    def seen_test_set(self, count: int, seed: int) -> Batch | None: ...

    def token_strings(self, tokens: Sequence[int]) -> list[str]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode(self, text: str) -> list[int]: ...


class Stories:
    """Stories with accuracy on second parts of names as the score. Building with `path` reads and tokenises all of it."""

    def __init__(self, config: StoriesConfig) -> None:
        self.config = config
        self.source: StorySource = _make_source(config)
        self._test_set = self.source.test_set(config.test_stories, config.test_seed)
        if not self._test_set.score_mask.any():
            raise ValueError(
                f"no character is named twice within {config.n_ctx} tokens of a test story; write a larger n_ctx"
            )

    @property
    def data_hash(self) -> str:
        """Tells apart the texts that real stories were read from; empty for generated ones."""
        return self.source.data_hash if isinstance(self.source, CorpusStories) else ""

    @property
    def d_vocab(self) -> int:
        return self.source.d_vocab

    @property
    def n_ctx(self) -> int:
        return self.config.n_ctx

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw training rows. Every token may be a target; that no target crosses into another story spares the first."""
        return self.source.sample(batch_size, generator, device)

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        return self._test_set.rows(0, batch_size).to(device)

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Accuracy and loss on second parts of unseen names; `full` adds generated stories with names from training.

        Only offset 1 is scored, because at offset 2 the token before the scored one, a first part, is not determined.
        """
        result = teacher_forced(predict, self._test_set.to(device).split(_TEST_ROWS), n_future)
        scores = _scores(self._test_set, "", result.accuracy[0], result.score_loss[0], result.count[0])
        seen = self.source.seen_test_set(self.config.test_stories, self.config.test_seed) if full else None
        if seen is not None:
            again = teacher_forced(predict, seen.to(device).split(_TEST_ROWS), 1)
            scores += _scores(seen, "_seen_names", again.accuracy[0], again.score_loss[0], again.count[0])
        return Evaluation(scores=scores, loss=result.loss)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """Words and parts of names; with `path`, pieces of text with the space that they begin with."""
        return self.source.token_strings(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Readable text, one line (with `path`, one paragraph) for each story."""
        return self.source.decode(tokens)

    def encode(self, text: str) -> list[int]:
        """Words, marks and names, whole or in two parts; a new line ends a story. With `path`, any text.

        `decode` writes no <end> behind the last story, and one for several: those are lost on the way back.
        """
        return self.source.encode(text)


def _scores(batch: Batch, suffix: str, accuracy: float, loss: float, count: int) -> tuple[Score, ...]:
    """The two scores on one test set, with the values of a guess among the characters of the story as chance."""
    characters = _scored_characters(batch)
    return (
        Score(name=f"second_name_token_accuracy{suffix}", value=accuracy, chance=float((1 / characters).mean()),
              ceiling=1.0, unit="share of second name tokens from the second mention on", count=count),
        Score(name=f"second_name_token_loss{suffix}", value=loss, chance=float(characters.log().mean()), ceiling=0.0,
              unit="nats per token", higher_is_better=False, count=count),
    )  # fmt: skip


def _scored_characters(batch: Batch) -> Tensor:
    """How many characters the story has, for each prediction that is scored."""
    return batch.info["characters"][score_targets(batch, 1) != IGNORED].double()


def _make_source(config: StoriesConfig) -> StorySource:
    if config.path is not None:
        return CorpusStories(
            config.path,
            n_ctx=config.n_ctx,
            bpe_vocab=config.bpe_vocab,
            max_stories=config.max_stories,
            min_characters=config.min_characters,
        )
    return GeneratedStories(
        build_grammar(config.n_templates, config.n_words, config.scenery > 0),
        NameRules(
            n_first=config.n_first_names,
            n_second=config.n_second_names,
            ambiguity=config.name_ambiguity,
            max_characters=config.max_characters,
        ),
        Layout(
            n_ctx=config.n_ctx,
            characters=(config.min_characters, config.max_characters),
            sentences=(config.min_sentences, config.max_sentences),
            scenery=config.scenery,
        ),
    )


def _check_names(config: StoriesConfig) -> None:
    least, most, n_first, n_second = (
        config.min_characters, config.max_characters, config.n_first_names, config.n_second_names
    )  # fmt: skip
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
            f"(so that each second name occurs) to {free} (the others are kept for the test), or None for all {free}"
        )


def _check_stories(config: StoriesConfig) -> None:
    if config.n_ctx < 16:
        raise ValueError(f"n_ctx is {config.n_ctx}, which hardly holds a second mention of a name; write at least 16")
    if not config.max_characters < config.min_sentences <= config.max_sentences:
        raise ValueError(
            f"min_sentences {config.min_sentences} and max_sentences {config.max_sentences} do not fit; "
            f"write max_characters < min_sentences <= max_sentences, since a story of {config.max_characters} "
            f"characters needs {config.max_characters} sentences to bring them in and to end, and one between"
        )
    if not 0 <= config.scenery <= 1:
        raise ValueError(f"scenery is {config.scenery}; write a share from 0 (none) to 1 (the whole middle of a story)")
    kinds = 4 + (config.scenery > 0)
    if config.n_templates is not None and config.n_templates < kinds:
        raise ValueError(
            f"n_templates is {config.n_templates}; write at least {kinds}, one for each part of a story, or None for all"
        )
    for field in ("n_words", "test_stories"):
        value = getattr(config, field)
        if value is not None and value < 1:
            raise ValueError(f"{field} is {value}; write at least 1")


CONFIG, TASK = StoriesConfig, Stories
