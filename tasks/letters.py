"""Words and capitals in every script: patterns for letters, words, and words that are capitalised within a sentence.

For ASCII text a letter is A-Z or a-z. For other text Unicode categories decide: a word is letters with their marks (an accent
may be a separate character), a capital is a letter of category Lu or Lt. Scripts without case have no capitals.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

_LAST_WITH_CASE = 0x1FFFF
"""No character above this one has upper or lower case."""


@dataclass(frozen=True)
class Letters:
    """Regular expressions for one kind of text."""

    word: re.Pattern[str]
    mid_sentence: re.Pattern[str]
    """Capitalised words of two letters or more, after a space that follows a small letter or a comma."""
    capital: re.Pattern[str]
    first_part: re.Pattern[str]
    """Matches a whole first part of a name: a capital, then any number of small letters."""
    second_part: re.Pattern[str]
    """Matches a whole second part of a name: two small letters or more."""


def _letters(upper: str, small: str, other: str, marks: str) -> Letters:
    tail = small + marks
    return Letters(
        word=re.compile(f"[{upper}{small}{other}][{upper}{small}{other}{marks}]*"),
        mid_sentence=re.compile(rf"(?<=[{tail},] )[{upper}][{tail}]+(?![\w{marks}])"),
        capital=re.compile(f"[{upper}]"),
        first_part=re.compile(f"[{upper}][{tail}]*"),
        second_part=re.compile(f"[{small}][{tail}]+"),
    )


ASCII = _letters("A-Z", "a-z", "", "")


@cache
def every_script() -> Letters:
    """The patterns for text of any script."""
    kinds: dict[str, list[int]] = {"upper": [], "small": [], "other": [], "marks": []}
    kind_of = {"Lu": "upper", "Lt": "upper", "Ll": "small", "Lm": "small", "Lo": "other", "Mn": "marks", "Mc": "marks"}
    for code in range(_LAST_WITH_CASE + 1):
        kind = kind_of.get(unicodedata.category(chr(code)))
        if kind is not None:
            kinds[kind].append(code)
    return _letters(**{kind: _ranges(codes) for kind, codes in kinds.items()})


def letters_of(text: str) -> Letters:
    """The patterns for a text. For ASCII text the patterns of `every_script` would give equal results, but more slowly."""
    return ASCII if text.isascii() else every_script()


def _ranges(codes: Iterable[int]) -> str:
    """Ascending code points as the contents of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
