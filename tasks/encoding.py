"""From text to tokens: look-up of words, and errors that name an unknown word and similar tokens.

>>> encode_words("2 + 1", {"1": 0, "2": 1, "+": 2})
[1, 2, 0]
"""

import difflib
from collections.abc import Iterable, Mapping

from tasks.config import shown

MOST_NEAR = 3
"""Number of similar tokens that an error names."""
MOST_COMPARED = 100
"""Longest word, in letters, for which similar tokens are searched; the comparison is slow for long words."""


def encode_words(text: str, token_of: Mapping[str, int]) -> list[int]:
    """The tokens of words separated by spaces. Raises ValueError for a text without words, and for an unknown word."""
    words = text.split()
    if not words:
        raise empty_text(token_of)
    for number, word in enumerate(words, start=1):
        if word not in token_of:
            raise unknown_word(word, number, token_of)
    return [token_of[word] for word in words]


def empty_text(known: Iterable[str]) -> ValueError:
    """The error for a text without tokens."""
    first = [word for word, _ in zip(known, range(4), strict=False)]
    return ValueError(f"the text holds no token; write some, such as '{' '.join(first)}'")


def unknown_word(word: str, number: int, known: Iterable[str]) -> ValueError:
    """The error for a word (the `number`-th, from 1) that is not one of `known`; it names words with similar spelling."""
    as_written = {text.lower(): text for text in known}
    compared = word.lower() if len(word) <= MOST_COMPARED else ""
    near = [as_written[text] for text in difflib.get_close_matches(compared, as_written, MOST_NEAR, cutoff=0.5)]
    some = [text for text in as_written.values() if text.isalnum()]
    said = "similar tokens are" if near else "some of its tokens are"
    return ValueError(
        f"word {number}, {shown(word)}, is no token of this task; {said} "
        + ", ".join(f"'{text}'" for text in near or some[:MOST_NEAR])
    )
