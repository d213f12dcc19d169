"""Line breaks of figure titles, for narrow pages."""

import textwrap

from playground.figures.text import MOST, plain
from playground.text import visible

WIDTH = 24
"""Letters that fit above a panel when two are side by side on a page of 820 pixels."""


def wrapped(text: str, width: int = WIDTH) -> str:
    """A title broken into as many lines as needed; ids, which contain no spaces, are broken after a hyphen.

    >>> wrapped("n = 2, layers, seed 0"), wrapped("stories-cpu-n2-layers-s0-a09b50a6")
    ('n = 2, layers, seed 0', 'stories-cpu-n2-layers-<br>s0-a09b50a6')
    """
    return "<br>".join(plain(line) for line in textwrap.wrap(visible(text, MOST), width))
