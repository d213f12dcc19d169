"""From sentence templates and word lists to a vocabulary and tables of integers for the sampler.

A template becomes a row of CODES: a code below `n_slots` is a slot to fill, any other is the word `code - n_slots`. The order
of slots is: the name parts X1 X2 Y1 Y2 Z1 Z2, then the story slots, then the sentence slots (`SLOTS`).

Every sentence of a story has a CASE, which determines its possible templates and the characters X, Y and Z:

    case 0      opening                X, Y = the first two characters
    case 1, 2   meeting                X = the third or fourth character, Y = an earlier one
    case 3..5   body, cast of 2..4     any order of the cast
    case 6..8   ending, cast of 2..4   any order of the cast
    case 9      scenery                no character
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tasks.story_templates import BODY, ENDING, MEETING, OPENING, SCENERY
from tasks.story_words import SENTENCE_SLOTS, STORY_SLOTS

END = "<end>"
"""The end-of-story token; always token 0."""
MAX_CAST = 4
"""The most characters that a story can have."""
CASE_BODY, CASE_ENDING, CASE_SCENERY, N_CASES = 3, 6, 9, 10
NAME_SLOTS = ("X1", "X2", "Y1", "Y2", "Z1", "Z2")
SLOTS = (*NAME_SLOTS, *STORY_SLOTS, *SENTENCE_SLOTS)

_PIECE = re.compile(r"\{\w+\}|<end>|'s|[\w-]+|[.,!?“”]")
_TEXT_PIECE = re.compile(r"<end>|\n\s*|'s\b|[\w-]+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A vocabulary, and templates encoded in it (see the module's docstring)."""

    words: tuple[str, ...]
    """All words and marks except names; the index is the token."""
    codes: tuple[tuple[int, ...], ...]
    """One row of slot and word codes per template."""
    templates: tuple[tuple[int, ...], ...]
    """Per case, the indices of its possible templates."""
    slot_words: tuple[tuple[int, ...], ...]
    """Per story and sentence slot (`SLOTS` without the names), the tokens of its possible words."""

    @property
    def n_slots(self) -> int:
        return len(SLOTS)


@cache
def all_words() -> frozenset[str]:
    """Every word of any grammar, in lower case; parts of names must differ from these."""
    pieces = [piece for group in (OPENING, MEETING, BODY, ENDING, SCENERY) for text in group for piece in split(text)]
    listed = [word for words in (STORY_SLOTS | SENTENCE_SLOTS).values() for word in words]
    return frozenset(word.lower() for word in (*pieces, *listed))


def split(template: str) -> list[str]:
    """The words, marks and slots of a template.

    >>> split("{X} ran home, {say} {Y}.")
    ['{X}', 'ran', 'home', ',', '{say}', '{Y}', '.']
    """
    return _PIECE.findall(template)


def build_grammar(n_templates: int | None, n_words: int | None, scenery: bool) -> Grammar:
    """The grammar of at most `n_templates` templates, with or without scenery sentences; `n_words` caps the word lists.

    Raises ValueError when `n_templates` is less than the number of kinds of templates.
    """
    groups = [OPENING, MEETING, BODY, ENDING, SCENERY if scenery else ()]
    if n_templates is not None:
        groups = [_spread(group, count) for group, count in zip(groups, _shares(groups, n_templates), strict=True)]
    texts = [[*split(text), END] if group is groups[3] else split(text) for group in groups for text in group]
    used = {piece for text in texts for piece in text}
    lists = {slot: words[:n_words] for slot, words in (STORY_SLOTS | SENTENCE_SLOTS).items() if f"{{{slot}}}" in used}
    fixed = {piece for piece in used if not piece.startswith("{")} - {END}
    words = (END, *sorted(fixed | {word for listed in lists.values() for word in listed}))
    token_of = {word: token for token, word in enumerate(words)}
    return Grammar(
        words=words,
        codes=tuple(tuple(_codes(text, token_of)) for text in texts),
        templates=_cases(groups),
        slot_words=tuple(
            tuple(token_of[word] for word in lists.get(slot, (END,))) for slot in SLOTS[len(NAME_SLOTS) :]
        ),
    )


def orders(case: int) -> list[tuple[int, int, int]]:
    """Possible (X, Y, Z) in sentences of `case`, as characters 0..3; templates without Z ignore the third."""
    if case in (0, CASE_SCENERY):
        return [(0, 1, 0)]
    if case < CASE_BODY:
        newcomer = case + 1
        return [(newcomer, other, 0) for other in range(newcomer)]
    cast = (case - CASE_BODY) % 3 + 2
    return [(first, second, (*others, 0)[0]) for first, second, *others in itertools.permutations(range(cast))]


def join_words(strings: Sequence[str], glued: Sequence[bool]) -> str:
    """Words as a line of text; a `glued` word (the second part of a name) follows the previous one without a space.

    >>> join_words(["“", "Run", ",", "Bo", "rin", "!", "”"], [False] * 4 + [True] + [False] * 2)
    '“Run, Borin!”'
    """
    text = ""
    for word, follows in zip(strings, glued, strict=True):
        closes = follows or word in {".", ",", "!", "?", "”", "'s"}
        if word == END:
            text = text.rstrip("\n") + "\n"
        else:
            text += word if not text or closes or text[-1] in "“\n" else f" {word}"
    return text.strip("\n")


def text_pieces(text: str) -> list[str]:
    """The words and marks of a text in the format of `join_words`, with END for a line end; names stay whole.

    Straight quotation marks count as curly ones: opening at the start of a word, closing elsewhere.

    >>> text_pieces('"Run, Borin!"')
    ['“', 'Run', ',', 'Borin', '!', '”']
    """
    curly = re.sub(r'(?<!\S)"', "“", text.strip()).replace('"', "”").replace("’", "'")
    return [END if piece.startswith("\n") else piece for piece in _TEXT_PIECE.findall(curly)]


def _roles(template: str) -> int:
    return len({"{X}", "{Y}", "{Z}"} & set(split(template)))


def _shares(groups: list[tuple[str, ...]], n_templates: int) -> list[int]:
    """Number of templates of each group: at least one if the group has any; the body gets the rest."""
    kinds = sum(map(bool, groups))
    if n_templates < kinds:
        raise ValueError(f"n_templates is {n_templates}; write at least {kinds}, one for each part of a story")
    total = sum(map(len, groups))
    opening, meeting, _, ending, scenery = (
        max(1, len(group) * n_templates // total) if group else 0 for group in groups
    )
    return [opening, meeting, n_templates - opening - meeting - ending - scenery, ending, scenery]


def _spread(group: tuple[str, ...], count: int) -> tuple[str, ...]:
    """`count` of the templates, evenly spaced from the first on, or all if there are fewer."""
    return tuple(group[index * len(group) // count] for index in range(count)) if count < len(group) else group


def _codes(text: list[str], token_of: dict[str, int]) -> list[int]:
    """Slot codes and shifted words of one template; a character is the two slots of its name."""
    codes: list[int] = []
    for piece in text:
        slot = piece.strip("{}")
        if not piece.startswith("{"):
            codes.append(len(SLOTS) + token_of[piece])
        elif slot in {"X", "Y", "Z"}:
            codes += [SLOTS.index(f"{slot}1"), SLOTS.index(f"{slot}2")]
        else:
            codes.append(SLOTS.index(slot))
    return codes


def _cases(groups: list[tuple[str, ...]]) -> tuple[tuple[int, ...], ...]:
    """Per case, the indices of its templates in the concatenation of all groups (0 if there are none)."""
    start, numbered = 0, []
    for group in groups:
        numbered.append([(start + index, _roles(text)) for index, text in enumerate(group)])
        start += len(group)
    opening, meeting, body, ending, scenery = numbered
    cases = [opening, meeting, meeting]
    cases += [[entry for entry in group if entry[1] <= cast] for group in (body, ending) for cast in (2, 3, 4)]
    return tuple(tuple(index for index, _ in case) for case in (*cases, scenery or opening[:1]))
