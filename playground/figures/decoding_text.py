"""Decoded text, token by token, with a player over the forwards that wrote it: which offset drafted what, what became of it.

Texts stand side by side under one clock that counts forwards, so that one sees which of them gets further with as many. Under
them the forward that the clock stands at: the token that was fed, its drafts as a tree, the accepted ones in the colour of
their offset, the refused ones struck out, and offset 1's own token. Written as HTML with its own script and no library:
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
"""Letters of a token in a box."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownText:
    """One row that a model wrote."""

    title: str
    row: DecodedRow
    speculative: int = 1
    """K; 1 is plain decoding, which has nothing to show forward by forward."""
    strings: Mapping[int, str]
    """Every token of the row, drafts included, as the task writes it."""
    spaced: bool = False
    """Whether tokens stand apart when they are read as text, as words do and bytes do not."""
    drawn: bool = False
    """Whether tokens were drawn at random."""


def decoding_data(shown: Sequence[ShownText], start: int | None = None) -> dict[str, Any]:
    """What the script draws, as plain values; `start` is the forward shown first, by default one that explains the most."""
    furthest = max((text.speculative for text in shown), default=1)
    return {
        "texts": [_text(text) for text in shown],
        "colors": [offset_color(offset) for offset in range(1, furthest + 1)],
        "start": telling_forward(shown) if start is None else start,
    }


def decoding_html(data: dict[str, Any], title: str = "Decoding") -> str:
    """A page of its own that shows `decoding_data`."""
    inside = json.dumps(data).replace("<", "\\u003c")
    safe = html.escape(visible(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe}</title><style>\n'
        ":root { color-scheme: light dark; }\nbody { font-family: system-ui, sans-serif; margin: 1.5rem; }\n"
        f'{CSS}</style></head>\n<body><h1 style="font-size: 1.2rem">{safe}</h1><div id="decoding"></div>\n<script>\n'
        f'{SCRIPT}\ndrawDecoding(document.getElementById("decoding"), {inside});\n</script></body></html>\n'
    )


def draft_states(step: DecodingStep) -> list[str]:
    """What became of each draft: `accepted`, `refused` by offset 1, or `unreached`, behind a refused one.

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


def telling_forward(shown: Sequence[ShownText]) -> int:
    """The first forward with an accepted draft and a refused one; failing that the first with an accepted one, or any draft."""
    steps = next((text.row.steps for text in shown if text.speculative > 1), ())
    states = [set(draft_states(step)) for step in steps]
    for wanted in ({"accepted", "refused"}, {"accepted"}, {"refused"}):
        for number, found in enumerate(states):
            if wanted <= found:
                return number
    return 0


def _text(shown: ShownText) -> dict[str, Any]:
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
    """Every forward: what was fed, its drafts, offset 1's own token, and how many of its tokens were still wanted."""
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
    """A token in running text: a line's end is seen, and ends the line."""
    return visible(string.replace("\n", "⏎").replace("\t", "⇥")).replace("⏎", "⏎\n")


def _chip(string: str) -> str:
    """A token in a box of its own, with its white space to be seen."""
    text = readable(string)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
