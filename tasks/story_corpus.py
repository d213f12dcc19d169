"""Real stories from text files, with the test of Gloeckle et al. 2024 (section 4.1): held-out stories, renamed.

The format is that of TinyStories: UTF-8 text with `<|endoftext|>` between stories. One story in twenty (by a hash of its
text, so copies stay together) is held out. A byte-level BPE tokenizer is trained on the others when the object is built;
the same files always give the same tokens, and nothing is kept on disk.

Training rows are random windows of the stories laid end to end; nothing in them is scored, since which of their tokens are
names is not known. In the test stories every name is replaced by a random one of exactly TWO tokens. A name is a word
that stands capitalised within sentences of the training stories, and hardly ever in lower case. New names are put in
as tokens, never tokenised with the text around them, so that the scored positions are exact:

    text        ... saw Lily . " Lily ! ... Lily ...
    tokens      ... saw| T|om|.| "|T|om|!| ...| T|om| ...        Lily is now " T" + "om", or "T" + "om" after a quote mark
    scored                  .        .            x

A first part with its leading space and the same without it are different tokens, so a second part is scored when its
own first part has been seen with it before, in the same story and row. Within a story all parts differ, and first parts
occur in no other word of it.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.base import Batch, Device, seeded_generator

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    Tokenizer = Any  # imported where it is used, so that the other tasks do not need the package

SEPARATOR = "<|endoftext|>"
"""What stands between stories, and the token at the end of each; always token 0."""
HELD_OUT = 20
"""One story in so many is held out."""
MIN_NAME_COUNT = 5
"""A name stands within sentences of the training stories at least this often."""
N_CANDIDATES, N_CANDIDATE_TRIES = 2000, 50_000
"""How many new names are collected, and how many pairs of parts are tried for it."""
MIN_CANDIDATES = 8
"""With fewer new names than this, no test."""
NOT_NAMES = frozenset(
    "I Mr Mrs Ms Dr Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas English".split()
)

_WORD = re.compile(r"[A-Za-z]+")
_MID_SENTENCE = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")


@dataclass(frozen=True, kw_only=True)
class NewName:
    """A name of two tokens; its first part comes in two forms, after a space and after anything else."""

    spaced: int
    plain: int
    second: int

    @property
    def tokens(self) -> set[int]:
        return {self.spaced, self.plain, self.second}


class CorpusStories:
    """Real stories: windows for training, renamed held-out stories for the test. Building it reads and tokenises all."""

    def __init__(
        self, path: str, *, n_ctx: int, bpe_vocab: int, max_stories: int | None = None, min_characters: int = 2
    ) -> None:
        self.n_ctx, self.min_characters = n_ctx, min_characters
        training, self._held_out = split_stories(read_stories(path, max_stories))
        self.tokenizer = train_tokenizer(training, bpe_vocab)
        words = Counter(word for story in training for word in _WORD.findall(story))
        self.names = find_names(training, words)
        self._known = {word.lower() for word in words}
        self._tokens, self._starts = self._tokenise(training)
        if len(self._tokens) < n_ctx:
            raise ValueError(f"{path} holds {len(self._tokens)} training tokens, fewer than n_ctx; write more stories")
        self.data_hash = hashlib.sha256("".join([*training, *self._held_out]).encode()).hexdigest()[:16]
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def d_vocab(self) -> int:
        return self.tokenizer.get_vocab_size()

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Random windows; `documents` numbers the stories in each from 0 on, and the first is mostly cropped."""
        device = torch.device(device)
        if device not in self._on_device:
            self._on_device[device] = (self._tokens.to(device), self._starts.to(device))
        tokens, starts = self._on_device[device]
        first_B1 = torch.randint(len(tokens) - self.n_ctx + 1, (batch_size, 1), generator=generator, device=device)
        place_BT = first_B1 + torch.arange(self.n_ctx, device=device)
        story_BT = torch.searchsorted(starts, place_BT, right=True)
        tokens_BT = tokens[place_BT].long()
        return Batch(
            tokens=tokens_BT,
            loss_mask=torch.ones_like(tokens_BT, dtype=torch.bool),
            score_mask=torch.zeros_like(tokens_BT, dtype=torch.bool),
            documents=story_BT - story_BT[:, :1],
            info={"characters": torch.zeros_like(tokens_BT)},
        )

    def test_set(self, count: int, seed: int) -> Batch:
        """Up to `count` renamed held-out stories, one a row, that name enough characters and one of them twice."""
        generator = seeded_generator(seed)
        candidates = find_new_names(self.tokenizer, self._known, generator)
        rows: list[dict[str, Tensor]] = []
        for index in torch.randperm(len(self._held_out), generator=generator).tolist():
            row = self._test_row(self._held_out[index], candidates, generator) if len(rows) < count else None
            if row is not None:
                rows.append(row)
        if not rows:
            raise ValueError(
                f"no held-out story (of {len(self._held_out)}) names {self.min_characters} characters and one of them twice "
                f"within {self.n_ctx} tokens; write a larger n_ctx, more stories, or a smaller min_characters"
            )
        stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        inside = stacked["documents"] == 0
        return Batch(
            tokens=stacked["tokens"],
            loss_mask=inside,
            score_mask=stacked["score_mask"],
            documents=stacked["documents"],
            info={"characters": stacked["characters"]},
        )

    def seen_test_set(self, count: int, seed: int) -> None:
        """None: which names of real stories are two tokens, and where, is not known."""

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        return [self.tokenizer.decode([int(token)], skip_special_tokens=False) for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, a blank line after each story."""
        text = self.tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False)
        return re.sub(rf"(?:{re.escape(SEPARATOR)})+", "\n\n", text).strip("\n")

    def encode(self, text: str) -> list[int]:
        """Any text, cut into the tokens that the tokenizer makes of it; `SEPARATOR` written out ends a story."""
        if not text:
            raise ValueError("the text is empty; write at least one character")
        return self._encode(text)

    def _tokenise(self, stories: list[str]) -> tuple[Tensor, Tensor]:
        """All stories end to end, each with its end token, and the places at which the second and later ones start."""
        parts: list[Tensor] = []
        for start in range(0, len(stories), 1024):
            encoded = self.tokenizer.encode_batch(stories[start : start + 1024])
            parts += [torch.tensor([*story.ids, 0], dtype=torch.int32) for story in encoded]
        return torch.cat(parts), torch.tensor([len(part) for part in parts]).cumsum(0)[:-1]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def _test_row(self, story: str, candidates: list[NewName], generator: torch.Generator) -> dict[str, Tensor] | None:
        """One row of a renamed story, or None if it does not name enough characters or none of them twice."""
        pieces = list(_name_pieces(story, self.names))
        cast = list(dict.fromkeys(name for _, name, _ in pieces if name))
        texts = [self._encode(text) for text, _, _ in pieces]
        chosen = _choose_names(cast, candidates, {token for text in texts for token in text}, generator)
        if chosen is None:
            return None
        tokens: list[int] = []
        scored: list[bool] = []
        seen: set[int] = set()
        visible: set[str] = set()
        for text, (_, name, spaced) in zip(texts, pieces, strict=True):
            tokens += text
            scored += [False] * len(text)
            if name:
                new = chosen[name]
                first = new.spaced if spaced else new.plain
                visible |= {name} if len(tokens) + 1 < self.n_ctx else set()
                tokens += [first, new.second]
                scored += [False, first in seen]
                seen.add(first)
        tokens, scored = [*tokens, 0][: self.n_ctx], [*scored, False][: self.n_ctx]
        if len(visible) < self.min_characters or not any(scored):
            return None
        pad = self.n_ctx - len(tokens)
        return {
            "tokens": torch.tensor(tokens + [0] * pad),
            "score_mask": torch.tensor(scored + [False] * pad),
            "documents": torch.tensor([0] * len(tokens) + [-1] * pad),
            "characters": torch.tensor([len(visible)] * len(tokens) + [0] * pad),
        }


def read_stories(path: str, max_stories: int | None = None) -> list[str]:
    """Stories of a .txt file, or of all those in a folder, in the order of their names. Raises ValueError if none."""
    place = Path(path)
    if not place.exists():
        raise ValueError(f"there is no file or folder '{path}'; write the path of a .txt file or of a folder of them")
    files = sorted(file for file in place.rglob("*.txt") if file.is_file()) if place.is_dir() else [place]
    if not files:
        raise ValueError(f"the folder '{path}' holds no .txt file; write the path of one that does")
    stories: list[str] = []
    separated = False
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"'{file}' is not UTF-8 (byte {error.start}); convert it to UTF-8 first") from error
        separated |= SEPARATOR in text
        stories += [story.strip() for story in text.split(SEPARATOR) if story.strip()]
        if max_stories is not None and len(stories) >= max_stories:
            break
    if not separated:
        raise ValueError(f"'{path}' has no '{SEPARATOR}'; write it between the stories, so that they can be told apart")
    return stories[:max_stories]


def split_stories(stories: list[str]) -> tuple[list[str], list[str]]:
    """Training and held-out stories. Raises ValueError when either is empty."""
    digests = [hashlib.blake2b(story.encode(), digest_size=8).digest() for story in stories]
    is_held_out = [int.from_bytes(digest) % HELD_OUT == 0 for digest in digests]
    training = [story for story, held_out in zip(stories, is_held_out, strict=True) if not held_out]
    test = [story for story, held_out in zip(stories, is_held_out, strict=True) if held_out]
    if not training or not test:
        raise ValueError(f"{len(stories)} stories are too few to hold one in {HELD_OUT} out; write more stories")
    return training, test


def train_tokenizer(stories: list[str], vocab: int) -> Tokenizer:
    """A byte-level BPE tokenizer with `SEPARATOR` as token 0; it can encode any text, and has `vocab` tokens at most."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    return tokenizer


def find_names(stories: list[str], words: Counter[str]) -> frozenset[str]:
    """Words that stand capitalised within sentences often enough, and ten times as often as in lower case."""
    counts = Counter(word for story in stories for word in _MID_SENTENCE.findall(story))
    return frozenset(
        word
        for word, count in counts.items()
        if count >= MIN_NAME_COUNT and count >= 10 * words[word.lower()] and word not in NOT_NAMES
    )


def find_new_names(tokenizer: Tokenizer, known: set[str], generator: torch.Generator) -> list[NewName]:
    """Random names that the tokenizer makes exactly two tokens of, with and without a space before.

    Neither a name nor its first part is a word of the training stories (`known`), single letters apart.
    """
    vocabulary = tokenizer.get_vocab()
    capital = (part for part in vocabulary if re.fullmatch(r"[A-Z][a-z]*", part) and f"Ġ{part}" in vocabulary)
    firsts = sorted(part for part in capital if len(part) == 1 or part.lower() not in known)
    seconds = sorted(part for part in vocabulary if re.fullmatch(r"[a-z]{2,}", part))
    found: list[NewName] = []
    n_pairs = len(firsts) * len(seconds)
    for pair in torch.randperm(n_pairs, generator=generator)[:N_CANDIDATE_TRIES].tolist():
        first, second = firsts[pair % len(firsts)], seconds[pair // len(firsts)]
        if (first + second).lower() in known:
            continue
        if len(found) == N_CANDIDATES:
            break
        new = NewName(spaced=vocabulary[f"Ġ{first}"], plain=vocabulary[first], second=vocabulary[second])
        spaced, plain = tokenizer.encode(f" {first}{second}").ids, tokenizer.encode(first + second).ids
        if spaced == [new.spaced, new.second] and plain == [new.plain, new.second]:
            found.append(new)
    if len(found) < MIN_CANDIDATES:
        raise ValueError(
            f"only {len(found)} names of exactly two tokens can be made of this vocabulary; "
            "write another bpe_vocab, or more stories"
        )
    return found


def _name_pieces(story: str, names: frozenset[str]) -> Iterator[tuple[str, str, bool]]:
    """The story as (text, name after it, whether a space stands before the name); the last name is empty."""
    end = 0
    for match in _WORD.finditer(story):
        if match.group() in names:
            spaced = story[end : match.start()].endswith(" ")
            yield story[end : match.start() - spaced], match.group(), spaced
            end = match.end()
    yield story[end:], "", False


def _choose_names(
    cast: list[str], candidates: list[NewName], taken: set[int], generator: torch.Generator
) -> dict[str, NewName] | None:
    """A new name for each of the cast, such that no part occurs twice or (a first part) in the text; None if too few."""
    chosen: dict[str, NewName] = {}
    used: set[int] = set()
    for index in torch.randperm(len(candidates), generator=generator).tolist():
        new = candidates[index]
        if len(chosen) < len(cast) and not new.tokens & used and not {new.spaced, new.plain} & taken:
            chosen[cast[len(chosen)]] = new
            used |= new.tokens
    return chosen if len(chosen) == len(cast) else None
