"""Predictions on one row before and after an ablation, as HTML: every token with the prediction of it below."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playground.text import visible

BROKE, MENDED, OTHER = "rgba(217, 70, 10, 0.32)", "rgba(15, 157, 116, 0.32)", "rgba(128, 136, 144, 0.30)"
"""Right before and wrong after; wrong before and right after; wrong both times, in different ways."""
CSS = """
<style>
.pt-row { display: flex; flex-wrap: wrap; gap: 3px; margin: 0.2rem 0 1rem; font-size: 0.8rem; line-height: 1.3; }
.pt-token { border: 1px solid rgba(128, 136, 144, 0.35); border-radius: 3px; padding: 1px 5px; text-align: center;
  font-family: var(--st-code-font, ui-monospace, monospace); white-space: pre-wrap;
  overflow-wrap: anywhere; min-height: 2.8em; }
.pt-token.pt-none { opacity: 0.45; border-style: dashed; }
.pt-token b { font-weight: 700; }
.pt-token small { display: block; font-size: 0.72rem; opacity: 0.9; }
.pt-token.pt-scored { border-bottom: 2.5px solid currentColor; }
.pt-key span { border-radius: 3px; padding: 0 5px; margin-right: 0.6em; }
</style>
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The argmax predictions of one offset on one row, indexed by the position of the predicted token."""

    offset: int
    before: NDArray[np.int64]
    """Token predicted by the whole model; -1 at the first `offset` positions, which nothing predicts."""
    after: NDArray[np.int64]
    scored: NDArray[np.bool_]
    """True for tokens that count in the task's accuracy at this offset."""


def predictions_html(
    tokens: NDArray[np.int64], strings: Sequence[str], names: dict[int, str], offsets: Sequence[Predictions]
) -> str:
    """A block for each offset. `strings` are the row's tokens as text, `names` the predicted tokens as text by token id."""
    blocks = [CSS, _key()]
    for found in offsets:
        made = found.before >= 0
        changed = made & (found.before != found.after)
        blocks.append(f"<div><b>Offset {found.offset}</b>: {_summary(tokens, found, changed)}</div>")
        boxes = [_box(place, strings, names, found, int(token)) for place, token in enumerate(tokens)]
        blocks.append(f'<div class="pt-row">{"".join(boxes)}</div>')
    return "\n".join(blocks)


def _summary(tokens: NDArray[np.int64], found: Predictions, changed: NDArray[np.bool_]) -> str:
    n_scored = int(found.scored.sum())
    right = [int((predicted == tokens)[found.scored].sum()) for predicted in (found.before, found.after)]
    scored = f"right on scored tokens {right[0]} → {right[1]} of {n_scored}" if n_scored else "no token here is scored"
    return f"{int(changed.sum())} of {int((found.before >= 0).sum())} predictions changed; {scored}"


def _box(place: int, strings: Sequence[str], names: dict[int, str], found: Predictions, token: int) -> str:
    before, after = int(found.before[place]), int(found.after[place])
    text = f"<b>{_shown(strings[place])}</b>"
    classes, style = ["pt-token"], ""
    if before < 0:
        return f'<span class="pt-token pt-none" title="no position predicts this token">{text}</span>'
    if found.scored[place]:
        classes.append("pt-scored")
    ours, theirs = (_shown(names[number]) for number in (before, after))
    told = f"position {place}: predicted {ours}, without the parts {theirs}"
    if before != after:
        color = BROKE if before == token else MENDED if after == token else OTHER
        style = f' style="background: {color}"'
        text += f"<small>{ours} → {theirs}</small>"
    elif before == token:
        text += "<small>right</small>"
    else:
        text += f"<small>{ours}</small>"
    return f'<span class="{" ".join(classes)}"{style} title="{told}">{text}</span>'


def _shown(token: str) -> str:
    return html.escape(visible(token))


def _key() -> str:
    kinds = ((BROKE, "right → wrong"), (MENDED, "wrong → right"), (OTHER, "wrong → another wrong"))
    marks = "".join(f'<span style="background: {color}">{text}</span>' for color, text in kinds)
    return (
        f'<div class="pt-key" style="font-size: 0.8rem; margin-bottom: 0.4rem">{marks} each box: the token, and below it '
        "its prediction before → after, if changed; underlined: scored</div>"
    )
