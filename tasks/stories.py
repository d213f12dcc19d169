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
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tasks.base import Batch, Device, Evaluation, Predict, Score
from tasks.scoring import rows_at_once, teacher_forced
from tasks.story_config import StoriesConfig
from tasks.story_corpus import CorpusStories, build_corpus, open_corpus
from tasks.story_grammar import build_grammar
from tasks.story_names import NameRules
from tasks.story_sampler import GeneratedStories, Layout
from tasks.targets import IGNORED, score_targets

_TEST_ROWS = 32
"""Test rows in one forward."""


@runtime_checkable
class StorySource(Protocol):
    """Where stories come from: the grammar or real text."""

    @property
    def d_vocab(self) -> int: ...

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch: ...

    def seen_test_set(self, count: int, seed: int) -> Batch | None: ...

    def token_strings(self, tokens: Sequence[int]) -> list[str]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode(self, text: str) -> list[int]: ...


class Stories:
    """Stories with accuracy on second parts of names as the score."""

    def __init__(self, config: StoriesConfig, source: StorySource, test_set: Batch) -> None:
        self.config, self.source, self._test_set = config, source, test_set

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
        at_once = rows_at_once(_TEST_ROWS, self.n_ctx * self.d_vocab * n_future)
        result = teacher_forced(predict, self._test_set.to(device).split(at_once), n_future)
        scores = _scores(self._test_set, "", result.accuracy[0], result.score_loss[0], result.count[0])
        seen = self.source.seen_test_set(self.config.test_stories, self.config.test_seed) if full else None
        if seen is not None:
            again = teacher_forced(predict, seen.to(device).split(at_once), 1)
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


class TextStories(Stories):
    """Real stories. A run keeps their tokenizer and test set; the text is read to train on."""

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
        """Read the text to train on, unless it has been read. Raises TextMissing or TextChanged when it is another one."""
        self._corpus.read_text()


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


def make_stories(config: StoriesConfig) -> Stories:
    """The task of a configuration. With `path` all of the text is read, a tokenizer trained, and the text tokenised."""
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
            f"no character is named twice within {config.n_ctx} tokens of a test story; write a larger n_ctx"
        )
    return Stories(config, source, test_set)


def open_stories(config: StoriesConfig, folder: Path | None, data_hash: str, path: str | None) -> "TextStories":
    """The task of a run that keeps its tokenizer and test set in `folder`, None if it keeps neither."""
    return TextStories(config, open_corpus(config, folder, data_hash, path))


CONFIG, TASK, OPEN_SAVED = StoriesConfig, make_stories, open_stories
