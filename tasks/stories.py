"""Children's stories whose characters have two-token names: the induction task of Gloeckle et al. 2024, section 4.1.

The first part of a name identifies the character; the second part is then known only from an earlier mention. So the score is
the accuracy on second parts, in stories whose names (pairs of parts) never occur in training. Worked row, two stories (each
word and each part of a name is one token; a name is shown as one word, Borin):

    position    0    1   2    3   4    5   6   7    8    9   10   11   12   13   14   15   16   17   18
    tokens     Bo  rin met   Mi  ra    .  Mi  ra saw   Bo  rin    . <end>  Bo   ra  met   Lu  rin    .
    documents   0    0   0    0   0    0   0   0    0    0    0    0    0    1    1    1    1    1    1
    again       .    .   .    .   .    .   .   x    .    .    x    .    .    .    .    .    .    .    .
    scored      .    .   .    .   .    .   .   x    .    .    .    .    .    .    .    .    .    .    .

In a story no two characters share a first or a second part, and rows start with a story, so the first part and one
earlier mention in the row determine the second part: the ceiling is 1.

The paper scores names that occur AGAIN: all mentions from the second on. Some of these can be predicted without the first
part: a character that was just named is rarely named next, and with two characters the other one is meant. Therefore the
headline score, `free_name_accuracy`, counts the first name of each sentence after all characters have been introduced. That
character is drawn independently for every sentence, so only the first part determines it, and chance is a guess among the
characters. The paper's score is `second_name_token_accuracy`; its chance is the best rule about recency (story_recency.py).

`name_ambiguity` is the number of second parts that can follow a first part in training. At 1 a bigram suffices in training,
and no head needs to attend to earlier mentions; the test pairs are wrong for the bigram by construction, so that a model with
only the bigram scores about 0, below chance. With None every pair occurs except those reserved for the test
(`tasks/story_names.py`), and only the row determines the second part. `evaluate(full=True)` adds these scores for names from
training, which distinguishes the two solutions.

With `path` the stories are real ones (`tasks/story_corpus.py`), with renamed test copies as in the paper. The text determines
who is named where: the paper's score is the only one, and its chance is the better one of the guess and the best rule.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from tasks.base import Batch, Device, Evaluation, Predict
from tasks.scoring import TeacherForced, rows_at_once, teacher_forced
from tasks.story_config import StoriesConfig
from tasks.story_corpus import CorpusStories, build_corpus, open_corpus
from tasks.story_grammar import build_grammar
from tasks.story_names import NameRules
from tasks.story_sampler import GeneratedStories, Layout
from tasks.story_scoring import ScoredSet, scored_sets

_TEST_ROWS = 32
"""Most test rows in one forward."""


@runtime_checkable
class StorySource(Protocol):
    """Source of stories: the grammar, or real text."""

    @property
    def d_vocab(self) -> int: ...

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch: ...

    def seen_test_set(self, count: int, seed: int) -> Batch | None: ...

    def every_mention(self, batch: Batch) -> Batch | None: ...

    def token_strings(self, tokens: Sequence[int]) -> list[str]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode(self, text: str) -> list[int]: ...


class Stories:
    """Stories; the score is the accuracy on second parts of names."""

    def __init__(self, config: StoriesConfig, source: StorySource, test_set: Batch) -> None:
        self.config, self.source, self._test_set = config, source, test_set

    @cached_property
    def scored(self) -> tuple[ScoredSet, ...]:
        """The test set with each choice of scored tokens; the headline score's choice is first."""
        return scored_sets(self._test_set, self.source.every_mention(self._test_set))

    @property
    def d_vocab(self) -> int:
        return self.source.d_vocab

    @property
    def n_ctx(self) -> int:
        return self.config.n_ctx

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw training rows. Every token may be a target, except the first of a story: targets never cross into a story."""
        return self.source.sample(batch_size, generator, device)

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        return self._test_set.rows(0, batch_size).to(device)

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Accuracy and loss on second parts of unseen names; `full` adds generated stories with names from training.

        Only offset 1 is scored: at offset 2 the token before the scored one, a first part, is not determined by the past.
        """
        first, *others = self.scored
        result = self._forced(predict, first, n_future, device)
        scores = first.scores("", result)
        for each in others:
            scores += each.scores("", self._forced(predict, each, 1, device))
        seen = self.source.seen_test_set(self.config.test_stories, self.config.test_seed) if full else None
        for each in () if seen is None else scored_sets(seen, self.source.every_mention(seen)):
            scores += each.scores("_seen_names", self._forced(predict, each, 1, device))
        return Evaluation(scores=tuple(scores), loss=result.loss)

    def _forced(self, predict: Predict, scored: ScoredSet, n_future: int, device: Device) -> TeacherForced:
        at_once = rows_at_once(_TEST_ROWS, self.n_ctx * self.d_vocab * n_future)
        return teacher_forced(predict, scored.batch.to(device).split(at_once), n_future)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """Words and parts of names; with `path`, pieces of text including their leading space."""
        return self.source.token_strings(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Readable text, one line (with `path`, one paragraph) for each story."""
        return self.source.decode(tokens)

    def encode(self, text: str) -> list[int]:
        """The tokens of words, marks and names, whole or in two parts; a new line ends a story. With `path`, of any text.

        `decode` writes no <end> after the last story, and one for several; these tokens are not recovered.
        """
        return self.source.encode(text)


class TextStories(Stories):
    """Real stories. A run stores their tokenizer and test set; the text is read only for training."""

    def __init__(self, config: StoriesConfig, source: CorpusStories) -> None:
        super().__init__(config, source, source.test)
        self._corpus = source

    @property
    def data_hash(self) -> str:
        """Fingerprint of the text."""
        return self._corpus.text.data_hash

    def save(self, folder: Path) -> None:
        """Write the tokenizer and the test set."""
        self._corpus.save(folder)

    def read_text(self) -> None:
        """Read the training text, unless it has been read. Raises TextMissing or TextChanged if it is another text."""
        self._corpus.read_text()


def make_stories(config: StoriesConfig) -> Stories:
    """The task of a configuration. With `path`, reads all of the text, trains a tokenizer and tokenises the text.

    Raises ValueError if no token of the test set would be scored.
    """
    if config.path is not None:
        return TextStories(config, build_corpus(config))
    source = GeneratedStories(
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
    test_set = source.test_set(config.test_stories, config.test_seed)
    if not test_set.score_mask.any():
        raise ValueError(
            f"within {config.n_ctx} tokens no test story names a character again after all have been introduced; write a "
            "larger n_ctx"
        )
    return Stories(config, source, test_set)


def open_stories(config: StoriesConfig, folder: Path | None, data_hash: str, path: str | None) -> "TextStories":
    """The task of a run that stores its tokenizer and test set in `folder`; None if it stores neither."""
    return TextStories(config, open_corpus(config, folder, data_hash, path))


CONFIG, TASK, OPEN_SAVED = StoriesConfig, make_stories, open_stories
