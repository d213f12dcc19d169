"""Names in real stories: find the names, make new names of exactly two tokens, and rename stories with them.

A name is a word that is capitalised within sentences of the training stories, and very rarely in lower case. New names
are inserted as tokens, never tokenised with the surrounding text, so that the scored positions are exact:

    text        ... saw Lily . " Lily ! ... Lily ...
    tokens      ... saw| T|om|.| "|T|om|!| ...| T|om| ...        Lily is now " T" + "om", or "T" + "om" after a quote mark
    scored                  .        .            x

A first part with a leading space and one without are different tokens, so a second part is scored if this form of its
first part has occurred with it before, in the same story and row. Within a story all parts differ, and first parts
occur in no other word of it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from tasks.letters import Letters
from tasks.story_rules import NOW, Rules
from tasks.story_tokens import encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    Tokenizer = Any  # imported where it is used, so that the other tasks do not need the package

MIN_NAME_COUNT = 5
"""Least number of occurrences of a name within sentences of the training stories."""
N_CANDIDATES, N_CANDIDATE_TRIES = 2000, 50_000
"""Number of new names that are collected, and of pairs of parts that are tried for it."""
MOST_SHUFFLED = 2**24
"""Above this number of pairs, single pairs are drawn: shuffling all would take gigabytes."""
MIN_CANDIDATES = 8
"""Least number of new names for a test set."""
NOT_NAMES = frozenset(
    "I Mr Mrs Ms Dr Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas English".split()
)


@dataclass(frozen=True, kw_only=True)
class NewName:
    """A name of two tokens; its first part has two forms, after a space (`spaced`) and otherwise (`plain`)."""

    spaced: int
    plain: int | None
    """None if the form without a space is not a single token; the name is then used only after a space."""
    second: int

    @property
    def firsts(self) -> set[int]:
        return {self.spaced} if self.plain is None else {self.spaced, self.plain}

    @property
    def tokens(self) -> set[int]:
        return self.firsts | {self.second}


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """A renamed story as tokens, without its end token."""

    tokens: list[int]
    scored: list[bool]
    complete: list[int]
    """For each character, the number of tokens up to the end of its first mention, ascending."""

    def needs(self, characters: int) -> int | None:
        """Number of first tokens that contain so many characters and a scored token; None if the story does not."""
        if True not in self.scored or len(self.complete) < characters:
            return None
        return max(self.scored.index(True) + 1, self.complete[characters - 1])


def find_names(stories: list[str], words: Counter[str], rules: Rules = NOW) -> frozenset[str]:
    """Words that are capitalised within sentences often enough, and at least ten times as often as in lower case."""
    counts = Counter(word for story in stories for word in rules.letters_of(story).mid_sentence.findall(story))
    return frozenset(
        word
        for word, count in counts.items()
        if count >= MIN_NAME_COUNT and count >= 10 * words[word.lower()] and word not in NOT_NAMES
    )


def find_new_names(
    tokenizer: Tokenizer, known: set[str], generator: torch.Generator, letters: Letters
) -> list[NewName]:
    """Random names that are exactly two tokens of the tokenizer, with and without a space before.

    Neither a name nor its first part is a word of the training stories (`known`), except single letters. A letter outside
    of ASCII is several bytes, and often a token only together with the space before it. Raises ValueError for too few names.
    """
    token_of = _readable_tokens(tokenizer)
    spaced_parts = (text[1:] for text in token_of if text.startswith(" "))
    capital = (part for part in spaced_parts if letters.first_part.fullmatch(part))
    usable = (part for part in capital if part in token_of or not part.isascii())
    firsts = sorted(part for part in usable if len(part) == 1 or part.lower() not in known)
    seconds = sorted(part for part in token_of if letters.second_part.fullmatch(part))
    found: list[NewName] = []
    for pair in random_pairs(len(firsts) * len(seconds), generator):
        first, second = firsts[pair % len(firsts)], seconds[pair // len(firsts)]
        if (first + second).lower() in known:
            continue
        if len(found) == N_CANDIDATES:
            break
        new = NewName(spaced=token_of[f" {first}"], plain=token_of.get(first), second=token_of[second])
        is_plain = tokenizer.encode(first + second).ids == [new.plain, new.second]
        if tokenizer.encode(f" {first}{second}").ids == [new.spaced, new.second] and (is_plain or not first.isascii()):
            found.append(new if is_plain else replace(new, plain=None))
    if len(found) < MIN_CANDIDATES:
        raise ValueError(
            f"only {len(found)} names of exactly two tokens can be made of the {len(token_of)} readable tokens of this "
            "vocabulary; write a larger bpe_vocab (some scripts need several times as many tokens as English), or more stories"
        )
    return found


def random_pairs(n_pairs: int, generator: torch.Generator) -> list[int]:
    """At most `N_CANDIDATE_TRIES` different random numbers below `n_pairs`."""
    if n_pairs <= MOST_SHUFFLED:
        return torch.randperm(n_pairs, generator=generator)[:N_CANDIDATE_TRIES].tolist()
    drawn = torch.randint(n_pairs, (N_CANDIDATE_TRIES,), generator=generator)
    return list(dict.fromkeys(drawn.tolist()))


def rename(
    story: str,
    names: frozenset[str],
    candidates: list[NewName],
    tokenizer: Tokenizer,
    letters: Letters,
    generator: torch.Generator,
) -> Renamed | None:
    """A story with a new name for each of its names; None if there are too few new names."""
    pieces = list(_name_pieces(story, names, letters))
    cast = list(dict.fromkeys(name for _, name, _ in pieces if name))
    texts = [encode(tokenizer, text) for text, _, _ in pieces]
    plain = {name for _, name, spaced in pieces if name and not spaced}
    chosen = _choose_names(cast, plain, candidates, {token for text in texts for token in text}, generator)
    if chosen is None:
        return None
    tokens: list[int] = []
    scored: list[bool] = []
    complete: dict[str, int] = {}
    seen: set[int] = set()
    for text, (_, name, spaced) in zip(texts, pieces, strict=True):
        tokens += text
        scored += [False] * len(text)
        if name:
            new = chosen[name]
            first = new.spaced if spaced or new.plain is None else new.plain
            tokens += [first, new.second]
            scored += [False, first in seen]
            complete.setdefault(name, len(tokens))
            seen.add(first)
    return Renamed(tokens=tokens, scored=scored, complete=list(complete.values()))


def _readable_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Tokens by their text, without tokens that are a part of a character."""
    texts = ((tokenizer.decode([token]), token) for token in tokenizer.get_vocab().values())
    return {text: token for text, token in texts if "\N{REPLACEMENT CHARACTER}" not in text}


def _name_pieces(story: str, names: frozenset[str], letters: Letters) -> Iterator[tuple[str, str, bool]]:
    """The story as (text, name after it, True if a space is before the name); the last name is empty."""
    end = 0
    for match in letters.word.finditer(story):
        if match.group() in names:
            spaced = story[end : match.start()].endswith(" ")
            yield story[end : match.start() - spaced], match.group(), spaced
            end = match.end()
    yield story[end:], "", False


def _choose_names(
    cast: list[str], plain: set[str], candidates: list[NewName], taken: set[int], generator: torch.Generator
) -> dict[str, NewName] | None:
    """A new name for each of the cast, so that no part occurs twice and no first part is in the text; None if too few.

    Names in `plain` do not always follow a space. `taken` are the tokens of the text.
    """
    chosen: dict[str, NewName] = {}
    used: set[int] = set()
    for index in torch.randperm(len(candidates), generator=generator).tolist():
        new = candidates[index]
        if len(chosen) == len(cast) or new.tokens & used or new.firsts & taken:
            continue
        name = cast[len(chosen)]
        if new.plain is not None or name not in plain:
            chosen[name] = new
            used |= new.tokens
    return chosen if len(chosen) == len(cast) else None
