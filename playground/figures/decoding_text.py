"""Decoded text, token by token, with a player over the forwards that wrote it: the drafts of each offset, accepted or refused.

Texts are shown side by side and advance together, forward by forward, so that one sees which is further after equally many
forwards. The current forward is shown under them: its input token, its drafts as a tree, accepted drafts in the colour of their
offset, refused ones struck out, and offset 1's own token. The output is HTML with its own script and no library:
`decoding_html` is a whole page that opens without a network, and the app mounts the same script as a component.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playground.figures.decoding_script import CSS, SCRIPT
from playground.figures.head_colors import offset_color
from playground.figures.lens import readable
from playground.results import DecodedRow, DecodingStep
from playground.text import visible

LONGEST = 24
"""Most letters of a token in a box."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenText:
    """One row that a model wrote."""

    title: str
    row: DecodedRow
    speculative: int = 1
    """K: the offsets 2 .. K drafted; 1 is plain decoding, which has no drafts to show."""
    strings: Mapping[int, str]
    """Every token of the row and its drafts as text, by token id."""
    spaced: bool = False
    """True if tokens are separated by spaces in running text, as words are and bytes are not."""
    drawn: bool = False
    """True if tokens were sampled, and not chosen greedily."""


def decoding_data(shown: Sequence[WrittenText], start: int | None = None) -> dict[str, Any]:
    """Input of the script, as plain values. `start` is the forward shown first; default: see `telling_forward`."""
    furthest = max((text.speculative for text in shown), default=1)
    return {
        "texts": [_text(text) for text in shown],
        "colors": [offset_color(offset) for offset in range(1, furthest + 1)],
        "start": telling_forward(shown) if start is None else start,
    }


def decoding_html(data: dict[str, Any], title: str = "Decoding") -> str:
    """A stand-alone HTML page that shows `decoding_data`."""
    inside = json.dumps(data).replace("<", "\\u003c")
    safe = html.escape(visible(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe}</title><style>\n'
        ":root { color-scheme: light dark; }\nbody { font-family: system-ui, sans-serif; margin: 1.5rem; }\n"
        f'{CSS}</style></head>\n<body><h1 style="font-size: 1.2rem">{safe}</h1><div id="decoding"></div>\n<script>\n'
        f'{SCRIPT}\ndrawDecoding(document.getElementById("decoding"), {inside});\n</script></body></html>\n'
    )


def draft_states(step: DecodingStep) -> list[str]:
    """State of each draft: `accepted`, `refused` by offset 1, or `unreached` (after a refused draft).

    >>> from playground.results import Draft
    >>> drafts = [Draft(token=k, offset=k, parent=k - 3, accepted=k == 2) for k in (2, 3, 4)]
    >>> draft_states(DecodingStep(drafts=tuple(drafts), emitted=(2, 9)))
    ['accepted', 'refused', 'unreached']
    """
    reached = [draft.parent < 0 or step.drafts[draft.parent].accepted for draft in step.drafts]
    return [
        "accepted" if draft.accepted else "refused" if before else "unreached"
        for draft, before in zip(step.drafts, reached, strict=True)
    ]


def telling_forward(shown: Sequence[WrittenText]) -> int:
    """The first forward with an accepted and a refused draft; else the first with an accepted one; else one with any draft."""
    steps = next((text.row.steps for text in shown if text.speculative > 1), ())
    states = [set(draft_states(step)) for step in steps]
    for wanted in ({"accepted", "refused"}, {"accepted"}, {"refused"}):
        for number, found in enumerate(states):
            if wanted <= found:
                return number
    return 0


def _text(shown: WrittenText) -> dict[str, Any]:
    row = shown.row
    emitted_by: list[int] = []
    for number, step in enumerate(row.steps):
        emitted_by += [number] * len(step.emitted)
    chips = {token: _chip(string) for token, string in shown.strings.items()}
    return {
        "title": visible(shown.title),
        "spaced": shown.spaced,
        "drawn": shown.drawn,
        "drafts": shown.speculative > 1,
        "prompt": [_running(shown.strings[token]) for token in row.prompt],
        "tokens": [
            {"text": _running(shown.strings[token]), "offset": offset, "forward": forward}
            for token, offset, forward in zip(row.tokens, row.offsets, emitted_by, strict=False)
        ],
        "steps": _steps(row, chips),
    }


def _steps(row: DecodedRow, chips: Mapping[int, str]) -> list[dict[str, Any]]:
    """Every forward: its input token, its drafts, offset 1's own token, and how many of its tokens were still wanted."""
    found: list[dict[str, Any]] = []
    written = 0
    before = row.prompt[-1]
    for step in row.steps:
        drafts = [
            {"text": chips[draft.token], "offset": draft.offset, "parent": draft.parent, "state": state}
            for draft, state in zip(step.drafts, draft_states(step), strict=True)
        ]
        kept = min(len(step.emitted), len(row.tokens) - written)
        found.append({"fed": chips[before], "drafts": drafts, "own": chips[step.emitted[-1]], "kept": kept})
        written += kept
        before = step.emitted[-1]
    return found


def _running(string: str) -> str:
    """A token in running text: a line break is shown as a symbol and also breaks the line."""
    return visible(string.replace("\n", "⏎").replace("\t", "⇥")).replace("⏎", "⏎\n")


def _chip(string: str) -> str:
    """A token in a box, with visible white space."""
    text = readable(string)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
