"""Verdicts by rule: whether looking ahead helps, delays, makes no difference that was seen, or is not decided. Needs no torch.

One control decides nothing (docs/explanation/fair-comparisons.md): a difference from the reference may come from a layer that
is missing (`layers`) or from parameters that are added (`trunk`). It is an effect of the loss only if both show it, in one
direction, and if `detached`, whose trunk learns from the next token alone, does not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from playground.analysis.effects import Effect

ALPHA = 0.05
"""A p value, adjusted for the cells of a study, below this counts as a difference."""
SMALL = 1.25
"""A ratio from 1/1.25 to 1.25 is called small: a study that could not have shown it says "not decided", not "no difference"."""
SMALL_DIFFERENCE = 0.05
"""The same for the difference of scores."""
NEEDED = ("layers", "trunk")
"""Controls that must agree."""
UNTOUCHED = "detached"
"""The control whose trunk does not learn from the further offsets."""

Word = Literal["helps", "delays", "no difference seen", "not decided"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The effect of one arm in one cell, with its p value adjusted for all tests of the study."""

    effect: Effect
    p_adjusted: float
    earlier_is_better: bool = True
    """True for times, and for scores that fall; False for scores that rise."""

    @property
    def word(self) -> Word:
        """What this arm alone shows; no claim about the loss."""
        effect = self.effect
        if math.isnan(effect.estimate) or math.isnan(self.p_adjusted):
            return "not decided"
        if self.p_adjusted < ALPHA:
            return "helps" if (effect.estimate < effect.neutral) == self.earlier_is_better else "delays"
        small = SMALL if effect.kind == "ratio" else SMALL_DIFFERENCE
        return "no difference seen" if effect.detectable <= small else "not decided"

    def __str__(self) -> str:
        """The figures: `1.74 times (0.95 t interval 1.07 to 2.55, 8 pairs of seeds, p = .02)`."""
        effect = self.effect
        unit = " times" if effect.kind == "ratio" else ""
        sign = "" if effect.kind == "ratio" else "+"
        interval = (
            f"95% interval {effect.low:{sign}.3g} to {effect.high:{sign}.3g}, " if not math.isnan(effect.low) else ""
        )
        p = f"p = {self.p_adjusted:.2g}" if not math.isnan(self.p_adjusted) else "no test"
        return f"{effect.estimate:{sign}.3g}{unit} ({interval}{effect.pairs} pairs of seeds, {p})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a cell of a study shows over all controls."""

    word: Word
    reason: str
    """One sentence with the figures of each control."""


def verdict(findings: Mapping[str, Finding]) -> Verdict:
    """The verdict from one arm's findings by control (`layers`, `trunk`, `detached`, `flops`)."""
    if not findings:
        return Verdict(word="not decided", reason="No arm has a result yet.")
    told = "; ".join(f"{control} {finding}" for control, finding in findings.items())
    missing = [control for control in NEEDED if control not in findings]
    if missing:
        return Verdict(
            word="not decided",
            reason=f"One control alone does not separate the loss from a missing layer or added parameters; run it under "
            f"{' and '.join(missing)} too. {told}.",
        )
    words: dict[str, Word] = {control: finding.word for control, finding in findings.items()}
    needed = {words[control] for control in NEEDED}
    moved: list[Word] = [word for word in needed if word in ("helps", "delays")]
    if len(needed) == 1 and moved:
        word = moved[0]
        if words.get(UNTOUCHED) == word:
            reason = (
                f"{UNTOUCHED} shows it too, although its trunk does not learn from the further offsets: not the loss"
            )
            return Verdict(word="not decided", reason=f"{told}. {_sentence(reason)}.")
        remark = "" if UNTOUCHED in words else f" {_sentence(UNTOUCHED)} has not been run."
        return Verdict(word=word, reason=f"{told}.{remark}")
    if needed == {"no difference seen"}:
        return Verdict(word="no difference seen", reason=f"{told}. {_could_show(findings)}")
    if len(moved) == 2:
        return Verdict(word="not decided", reason=f"The controls disagree: {told}.")
    if moved:
        (shown,) = [control for control in NEEDED if words[control] in moved]
        (other,) = [control for control in NEEDED if control != shown]
        return Verdict(word="not decided", reason=f"Only {shown} shows a difference, {other} does not: {told}.")
    return Verdict(word="not decided", reason=f"Too few seeds for these spreads: {told}. {_could_show(findings)}")


def _could_show(findings: Mapping[str, Finding]) -> str:
    parts: list[str] = []
    for control in NEEDED:
        effect = findings[control].effect
        if math.isnan(effect.detectable):
            continue
        least = f"{effect.detectable:.3g}"
        size = (
            f"a ratio of {least} or {1 / effect.detectable:.3g}"
            if effect.kind == "ratio"
            else f"a difference of {least}"
        )
        parts.append(f"{control} {size}")
    return f"These seeds could have shown, with probability 0.8: {', '.join(parts)}." if parts else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
