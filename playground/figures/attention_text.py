"""Attention on readable tokens: pointing at a token shades, for each head, the tokens that it attends to by weight.

There is one card per head. Pointing in one card selects that token in all of them, so that heads can be compared. The output is
HTML with its own script and no library: `attention_html` is a whole page that opens without a network, and the app mounts the
same script as a component.
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.figures.attention_script import CSS, SCRIPT
from playground.text import visible

DIGITS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadOnRow:
    """One head and its attention pattern on the row."""

    name: str
    title: str
    note: str
    """Text under the title: its scores, with null bands and the ideal."""
    color: str
    """`#rrggbb`"""
    pattern: NDArray[np.floating]
    """`[query, key]`"""


def attention_data(
    tokens: Sequence[str],
    heads: Sequence[HeadOnRow],
    *,
    targets: NDArray[np.bool_] | None = None,
    start: int | None = None,
) -> dict[str, Any]:
    """Input of the script, as plain values.

    `targets[query, key]` marks the positions that an ideal induction head attends to; they get a dashed frame. `start` is the
    token selected at first (default: the last one).
    """
    length = len(tokens)
    return {
        "tokens": [visible(token) for token in tokens],
        "heads": [
            {
                "name": visible(head.name),
                "title": visible(head.title),
                "note": visible(head.note),
                "color": head.color,
                "weights": [_rounded(head.pattern[query, : query + 1]) for query in range(length)],
            }
            for head in heads
        ],
        "ideal": [np.nonzero(targets[query])[0].tolist() if targets is not None else [] for query in range(length)],
        "start": length - 1 if start is None else start,
    }


def attention_html(data: dict[str, Any], title: str = "Attention") -> str:
    """A stand-alone HTML page that shows `attention_data`."""
    inside = json.dumps(data).replace("<", "\\u003c")
    safe = html.escape(visible(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe}</title><style>\n'
        ":root { color-scheme: light dark; }\nbody { font-family: system-ui, sans-serif; margin: 1.5rem; }\n"
        f'{CSS}</style></head>\n<body><h1 style="font-size: 1.2rem">{safe}</h1><div id="attention"></div>\n<script>\n'
        f'{SCRIPT}\ndrawAttention(document.getElementById("attention"), {inside});\n</script></body></html>\n'
    )


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return np.round(np.asarray(values, dtype=np.float64), DIGITS).tolist()
