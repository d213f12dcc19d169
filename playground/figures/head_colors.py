"""Colours of attention heads in figures with one line or bar per head."""

from playground.figures.style import COLORS
from playground.results import Head

INK = "#6b747d"
"""Marks and whiskers: a middle lightness that is visible on light and dark pages."""


def head_color(head: Head) -> str:
    """Blue for the trunk; a future head has the colour of the smallest n that includes it, so future head 1 is orange."""
    kind, _, number = head.layer.partition(".")
    colors = list(COLORS.values())
    return colors[1 + int(number) % (len(colors) - 1)] if kind == "future_heads" else colors[0]


def offset_color(offset: int) -> str:
    """The colour of the future head that predicts an offset."""
    return head_color(Head(f"future_heads.{offset - 1}", 0))
