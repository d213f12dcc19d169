"""Escaping of text for display: stored strings, paths, errors and tokens may contain any characters.

The output medium needs further escaping: playground/ui/shared/text.py for pages, playground/figures/text.py for figures,
playground/terminal.py for a terminal. All of them first apply `visible`.
"""

import re

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # line ends and changes of text direction
    "\ud800-\udfff]"  # lone surrogates, which no stream can encode
)


def visible(text: str, most: int | None = None) -> str:
    r"""The text with control characters, line ends and lone surrogates as escapes; cut with `..` after `most` characters.

    >>> print(visible("a\x1b[31m\n\ud800"), visible("abcdef", 4))
    a\x1b[31m\n\ud800 ab..
    """
    if most is not None and len(text) > most:
        text = text[: max(0, most - 2)] + ".."
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def is_whole(text: str) -> bool:
    r"""True if a text has no lone surrogates (halves of characters), which no stream can encode.

    >>> is_whole("é"), is_whole("\ud800")
    (True, False)
    """
    return text.isascii() or not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def writable(text: str, encoding: str | None) -> str:
    r"""The text with escapes for characters that a stream of this encoding cannot write.

    >>> print(writable("1 €", "ascii"))
    1 \u20ac
    """
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
