"""The rule behind a verdict, case by case."""

import math

import pytest

from playground.analysis.effects import Effect
from playground.studies.verdict import Finding, verdict


def finding(
    ratio: float = 1.0, p: float = 0.5, detectable: float = 1.1, *, kind="ratio", earlier: bool = True
) -> Finding:
    effect = Effect(
        kind=kind,
        pairs=8,
        estimate=ratio,
        low=ratio * 0.9,
        high=ratio * 1.1,
        median=ratio,
        median_low=ratio * 0.8,
        median_high=ratio * 1.2,
        p=p,
        detectable=detectable,
    )
    return Finding(effect=effect, p_adjusted=p, earlier_is_better=earlier)


SOONER, LATER = finding(0.6, 0.01), finding(1.7, 0.01)
EQUAL, UNSURE = finding(1.02), finding(1.3, 0.2, detectable=1.8)

CASES = {
    "both controls and not detached": ({"layers": SOONER, "trunk": SOONER, "detached": EQUAL}, "helps"),
    "both controls later": ({"layers": LATER, "trunk": LATER, "detached": EQUAL}, "delays"),
    "detached was not run": ({"layers": LATER, "trunk": LATER}, "delays"),
    "detached moves too": ({"layers": SOONER, "trunk": SOONER, "detached": SOONER}, "not decided"),
    "one control alone": ({"layers": SOONER}, "not decided"),
    "trunk and detached without layers": ({"trunk": SOONER, "detached": EQUAL}, "not decided"),
    "one moves, the other does not": ({"layers": SOONER, "trunk": EQUAL, "detached": EQUAL}, "not decided"),
    "they disagree": ({"layers": SOONER, "trunk": LATER}, "not decided"),
    "nothing moves and it would have been seen": ({"layers": EQUAL, "trunk": EQUAL}, "no difference seen"),
    "nothing moves and it would not have been seen": ({"layers": EQUAL, "trunk": UNSURE}, "not decided"),
    "no results": ({}, "not decided"),
    "no test with one seed": ({"layers": finding(0.5, math.nan), "trunk": finding(0.5, math.nan)}, "not decided"),
}


@pytest.mark.parametrize(("findings", "word"), CASES.values(), ids=CASES)
def test_the_rule(findings, word):
    found = verdict(findings)
    assert found.word == word and found.reason.endswith(".")
    assert not findings or all(f"{one.effect.pairs} pairs" in found.reason for one in findings.values())


def test_a_score_that_rises_is_better_later():
    up = finding(0.1, 0.01, 0.02, kind="difference", earlier=False)
    assert up.word == "helps" and finding(-0.1, 0.01, kind="difference", earlier=False).word == "delays"
    assert "+0.1 (" in str(up)


def test_a_verdict_says_what_the_seeds_could_have_shown():
    assert "a ratio of 1.8 or 0.556" in verdict({"layers": UNSURE, "trunk": UNSURE}).reason
