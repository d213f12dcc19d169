"""Real stories from text files, with the test of Gloeckle et al. 2024 (section 4.1): held-out stories, renamed.

A byte-level BPE tokenizer is trained on the training stories when the object is built; equal files always give equal tokens.
A run stores the tokenizer and the test set, so that the text is needed only for training.

Training rows are random windows of the concatenated stories; nothing in them is scored, since it is not known which of their
tokens are names. In the test stories every name is replaced by a random one of exactly two tokens (story_renaming.py).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.base import Batch, Device
from tasks.saved import Fingerprint, TextOfRun, read_tensors, write_tensors
from tasks.story_config import StoriesConfig
from tasks.story_rules import BEFORE, NOW, Rules
from tasks.story_test_set import batch_of, check_test_set, make_test_set
from tasks.story_text import SEPARATOR, StoryText, load_stories
from tasks.story_tokens import encode, encode_stories, read_tokenizer, train_tokenizer, write_tokenizer
from tasks.text_files import named

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    Tokenizer = Any  # imported where it is used, so that the other tasks do not need the package

TOKENIZER, TEST_SET = "tokenizer.json", "test_set.safetensors"
"""The files in a run's folder that store the tokenizer and the test set."""
_TYPES = {"tokens": torch.int32, "score_mask": torch.bool, "documents": torch.int32, "characters": torch.int32}


class CorpusStories:
    """Real stories: windows for training, renamed held-out stories for the test."""

    def __init__(
        self,
        config: StoriesConfig,
        tokenizer: Tokenizer,
        test_set: Batch,
        text: Fingerprint,
        of_run: TextOfRun | None = None,
    ) -> None:
        self.config, self.tokenizer, self.test, self.text, self._of_run = config, tokenizer, test_set, text, of_run
        self._tokens: tuple[Tensor, Tensor] | None = None
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def d_vocab(self) -> int:
        return self.tokenizer.get_vocab_size()

    def read_text(self) -> None:
        """Read the training stories, unless they have been read. Raises TextMissing or TextChanged for another text."""
        if self._tokens is None:
            self.train_on(_read(self.config, self._of_run))

    def train_on(self, text: StoryText) -> None:
        """Tokenise the training stories with the existing tokenizer. Raises ValueError for less text than one row."""
        tokens, starts = encode_stories(self.tokenizer, text.training)
        if len(tokens) < self.config.n_ctx:
            raise ValueError(
                f"{named(self.config.path)} holds {len(tokens)} training tokens, fewer than n_ctx; write more stories, or "
                f"n_ctx <= {len(tokens)}"
            )
        self._tokens = tokens, starts

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Random windows; `documents` numbers the stories in each from 0 on, and the first is usually cropped."""
        device, n_ctx = torch.device(device), self.config.n_ctx
        tokens, starts = self._training_on(device)
        first_B1 = torch.randint(len(tokens) - n_ctx + 1, (batch_size, 1), generator=generator, device=device)
        place_BT = first_B1 + torch.arange(n_ctx, device=device)
        story_BT = torch.searchsorted(starts, place_BT, right=True)
        tokens_BT = tokens[place_BT].long()
        return Batch(
            tokens=tokens_BT,
            loss_mask=torch.ones_like(tokens_BT, dtype=torch.bool),
            score_mask=torch.zeros_like(tokens_BT, dtype=torch.bool),
            documents=story_BT - story_BT[:, :1],
            info={"characters": torch.zeros_like(tokens_BT)},
        )

    def seen_test_set(self, count: int, seed: int) -> None:
        """None, because it is not known where real stories have names of two tokens."""

    def every_mention(self, batch: Batch) -> None:
        """None, because the test set itself is scored on every mention from the second on."""

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        return [self.tokenizer.decode([int(token)], skip_special_tokens=False) for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, with a blank line after each story."""
        text = self.tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False)
        return re.sub(rf"(?:{re.escape(SEPARATOR)})+", "\n\n", text).strip("\n")

    def encode(self, text: str) -> list[int]:
        """The tokenizer's tokens of any text; the text of `SEPARATOR` ends a story. Raises ValueError for an empty text."""
        if not text:
            raise ValueError("the text is empty; write at least one character")
        return encode(self.tokenizer, text)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and the test set."""
        write_tokenizer(self.tokenizer, folder / TOKENIZER)
        test = {"tokens": self.test.tokens, "score_mask": self.test.score_mask, "documents": self.test.documents}
        tensors = (test | {"characters": self.test.info["characters"]}).items()
        write_tensors(folder / TEST_SET, {name: value.to(_TYPES[name]) for name, value in tensors}, self.text)

    def _training_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._on_device:
            self.read_text()
            assert self._tokens is not None
            self._on_device[device] = (self._tokens[0].to(device), self._tokens[1].to(device))
        return self._on_device[device]


def build_corpus(config: StoriesConfig, rules: Rules = NOW, of_run: TextOfRun | None = None) -> CorpusStories:
    """Read all of the text, train a tokenizer on it and make the test set."""
    text = _read(config, of_run)
    tokenizer = train_tokenizer(text.training, config.bpe_vocab, rules.longest_word)
    test_set = make_test_set(config, text, tokenizer, rules)
    corpus = CorpusStories(config, tokenizer, test_set, text.fingerprint, of_run)
    corpus.train_on(text)
    return corpus


def open_corpus(config: StoriesConfig, folder: Path | None, data_hash: str, path: str | None) -> CorpusStories:
    """The stories of a run that stores tokenizer and test set in `folder`; None: they are made again from the text.

    `path` is the present path of the text, if it differs from the configuration's.
    """
    path = config.path if path is None else path
    if folder is None:
        text = Fingerprint(data_hash=data_hash, boundaries="")
        return build_corpus(config, BEFORE, TextOfRun(fingerprint=text, path=path, lacks="tokenizer and test set"))
    file = folder / TEST_SET
    tensors, text = read_tensors(file, config.n_ctx, data_hash, **_TYPES)
    tokenizer = read_tokenizer(folder / TOKENIZER, config.bpe_vocab)
    test_set = batch_of({name: value if value.dtype == torch.bool else value.long() for name, value in tensors.items()})
    check_test_set(file, test_set, tokenizer.get_vocab_size())
    return CorpusStories(config, tokenizer, test_set, text, TextOfRun(fingerprint=text, path=path))


def _read(config: StoriesConfig, of_run: TextOfRun | None) -> StoryText:
    path = config.path if of_run is None else of_run.path
    assert path is not None
    if of_run is None:
        return load_stories(path, config.max_stories)
    with of_run.reading():
        text = load_stories(path, config.max_stories)
        of_run.check(text.fingerprint, path)
    return text
