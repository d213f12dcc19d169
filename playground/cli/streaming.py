"""Live output of decoded text: the prompt dim, each accepted draft in the colour of its offset.

Drafts are also underlined, so that they differ from offset 1's own tokens without colours, spaces included. If stdout is not
a terminal, the text is printed without styles.
"""

import math
import re
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from playground.figures.head_colors import offset_color
from playground.results import DecodedRow, Decoding, DecodingSpeed, DecodingStep
from playground.terminal import shown

Decode = Callable[[Sequence[int]], str]
UNFINISHED = "\ufffd"
"""The character that `decode` writes for invalid bytes, or for bytes of an incomplete character."""
LONGEST = 3
"""Most bytes of a UTF-8 character after its first."""


class GrowingText:
    """Tokens as text, piece by piece: a returned piece never changes later, and characters are complete.

    >>> text = GrowingText(lambda tokens: bytes(tokens).decode("utf-8", "replace"), list(b"a\\xe2"))
    >>> text.shown, text.add(0x82), text.add(0xAC), text.add(0x21), text.finish()
    ('a', '', '€', '!', '')
    """

    def __init__(self, decode: Decode, prompt: Sequence[int]) -> None:
        self.decode, self.tokens = decode, list(prompt)
        self.shown = self._settled()

    def add(self, token: int) -> str:
        """The text that a further token adds; empty while a character is incomplete."""
        self.tokens.append(token)
        return self._extend(self._settled())

    def finish(self) -> str:
        """The text held back so far: bytes that did not become a character."""
        return self._extend(self.decode(self.tokens))

    def _extend(self, text: str) -> str:
        piece = text[len(self.shown) :]
        self.shown += piece
        return piece

    def _settled(self) -> str:
        """The part of the text that no further token can change."""
        text = self.decode(self.tokens)
        for back in range(1, min(LONGEST, len(self.tokens)) + 1):
            if not text.endswith(UNFINISHED):
                break
            text = self.decode(self.tokens[:-back])
        return text


class Screen:
    """Writes one decoded row to stdout, forward by forward."""

    def __init__(self, decode: Decode, prompt: Sequence[int], limit: int, stop: Sequence[int]) -> None:
        self.text, self.left, self.stop = GrowingText(decode, prompt), limit, set(stop)
        self.console = Console(highlight=False, soft_wrap=True)
        self._write(self.text.shown, "dim")

    def step(self, _row: int, step: DecodingStep) -> None:
        """Print the tokens of a forward, up to a stop token or the limit."""
        accepted = [draft.offset for draft in step.drafts if draft.accepted]
        for token, offset in zip(step.emitted, (*accepted, 1), strict=True):
            if self.left:
                self._write(self.text.add(token), _style(offset))
                self.left = 0 if token in self.stop else self.left - 1

    def end(self) -> None:
        """Print the rest, and a line end."""
        self._write(self.text.finish(), "")
        self._write("\n", "")

    def _write(self, piece: str, style: str) -> None:
        piece = _shown_lines(piece)
        if self.console.is_terminal:
            self.console.print(Text(piece, style=style), end="")
        else:
            sys.stdout.write(piece)
        sys.stdout.flush()


def say_outcome(decoding: Decoding, speed: DecodingSpeed | None) -> None:
    """Print the line after a text on stderr: forwards, acceptance per offset, and the measured speed-up."""
    row = decoding.decoded[0]
    said = Text(f"{_count(row)}, step by step" if decoding.speculative == 1 else _count(row))
    if decoding.speculative > 1 and row.forwards:
        said.append(f": {decoding.tokens_per_forward:.2f} tokens per forward; accepted ")
        found = decoding.acceptance
        for index, (offset, rate) in enumerate(zip(found.offsets, found.conditional.tolist(), strict=True)):
            said.append(", " if index else "")
            said.append(f"offset {offset} {'-' if math.isnan(rate) else f'{rate:.0%}'}", style=_style(offset))
        said.append(" (each where those before it were)" if len(found.offsets) > 1 else "")
    if speed is not None:
        said.append(f"; {_speed(speed)}")
    elif row.forwards:
        said.append(f"; {decoding.tokens_per_second:,.0f} tokens/s")
    if not decoding.exact:
        said.append("; typical acceptance: NOT distributed as in plain decoding")
    Console(stderr=True, highlight=False, soft_wrap=True).print(said)


def _count(row: DecodedRow) -> str:
    tokens, forwards = len(row.tokens), row.forwards
    return f"{tokens} token{'s' if tokens != 1 else ''}, {forwards} forward{'s' if forwards != 1 else ''} after the prompt's"


def _speed(speed: DecodingSpeed) -> str:
    low, high = speed.spread
    of = "plain decoding" if speed.identical is not None else f"plain decoding of as many tokens, {speed.new_tokens}"
    parted = f", DIFFERENT TEXT from plain decoding, from a token whose logit was {speed.gap:.2g} above the second one"
    same = {True: ", same text", False: parted, None: ""}[speed.identical]
    return f"{speed.speedup:.2f} times as fast as {of} ({low:.2f} to {high:.2f} in {len(speed.plain_seconds)} repeats){same}"


def _style(offset: int) -> str:
    return f"underline {offset_color(offset)}" if offset > 1 else ""


def _shown_lines(text: str) -> str:
    """The text with escapes for what stdout cannot show; line ends and tabs are kept."""
    return re.sub(r"[^\n\t]+", lambda found: shown(found[0], sys.stdout.encoding), text)
