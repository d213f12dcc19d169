"""Byte-level BPE for stories: training the tokenizer, and stories as tokens.

Words longer than LONGEST_WORD are cut (a word is a unit of the pre-tokenizer: letters, digits, marks, or spaces). The time of
training and encoding grows with the square of a word's length: a word of 250,000 letters took 45 s. Text without such words
gives equal tokens with and without the cut.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.interruptible import interruptible
from tasks.saved import damaged, read_saved
from tasks.story_text import SEPARATOR

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    Tokenizer = Any  # imported where it is used, so that the other tasks do not need the package

LONGEST_WORD = 512
"""Longest word, in bytes."""
_AT_ONCE = 1024
"""Stories encoded in one call."""
_SHORT = 100_000
"""A text of fewer characters is encoded within milliseconds, without a separate thread."""


def train_tokenizer(stories: list[str], vocab: int, longest_word: int | None = LONGEST_WORD) -> Tokenizer:
    """A byte-level BPE tokenizer with `SEPARATOR` as token 0; it can encode any text, and has `vocab` tokens at most."""
    from tokenizers import pre_tokenizers, trainers

    tokenizer = _untrained(longest_word)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    interruptible(lambda: tokenizer.train_from_iterator(stories, trainer))
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text. Ctrl-C interrupts the encoding of a long text."""
    if len(text) < _SHORT:
        return tokenizer.encode(text).ids
    return interruptible(lambda: tokenizer.encode(text)).ids


def encode_stories(tokenizer: Tokenizer, stories: list[str]) -> tuple[Tensor, Tensor]:
    """All stories concatenated, each with its end token, and the positions at which the second and later stories start."""
    parts: list[Tensor] = []
    for start in range(0, len(stories), _AT_ONCE):
        some = stories[start : start + _AT_ONCE]
        encoded = interruptible(lambda some=some: tokenizer.encode_batch(some))
        parts += [torch.tensor([*story.ids, 0], dtype=torch.int32) for story in encoded]
    return torch.cat(parts), torch.tensor([len(part) for part in parts]).cumsum(0)[:-1]


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer in the format of the tokenizers library."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def read_tokenizer(path: Path, most_tokens: int) -> Tokenizer:
    """Read a file of `write_tokenizer`. Raises ValueError, with the file's name, for anything else."""
    from tokenizers import Tokenizer

    text = read_saved(path)
    try:
        tokenizer = Tokenizer.from_buffer(text)
    except Exception as error:  # the library raises plain Exception
        raise damaged(path, f"it holds no tokenizer ({' '.join(str(error).split())[:100]})") from error
    vocabulary = tokenizer.get_vocab()
    if vocabulary.get(SEPARATOR) != 0 or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise damaged(path, f"'{SEPARATOR}' is not its token 0, or its tokens are not numbered in a row")
    if not 257 <= len(vocabulary) <= most_tokens:
        raise damaged(path, f"it has {len(vocabulary)} tokens, and its task needs 257 to {most_tokens}")
    known = [_untrained(length) for length in (LONGEST_WORD, None)]
    for each in known:
        each.add_special_tokens([SEPARATOR])
    if _settings(tokenizer) not in [_settings(each) for each in known]:
        raise damaged(path, "its settings differ from those of this task's tokenizers")
    return tokenizer


def _untrained(longest_word: int | None) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cut = [] if longest_word is None else [pre_tokenizers.FixedLength(longest_word)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, *cut]) if cut else words
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings of a tokenizer without its trained vocabulary and merges."""
    settings = json.loads(tokenizer.to_str())
    del settings["model"]["vocab"], settings["model"]["merges"]
    return settings
