"""When a score crosses, against a slow search."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.experiments.statistics import crossing

NAN = float("nan")
CASES = {
    "stays above": ([0.0, 0.6, 0.9], 10),
    "falls back once": ([0.0, 0.6, 0.4, 0.7], 30),
    "falls back for good": ([0.0, 0.9, 0.4], None),
    "never": ([0.0, 0.1, 0.4], None),
    "from the start": ([0.8, 0.9, 1.0], 0),
    "exactly half": ([0.0, 0.5, 0.5], 10),
    "at the last": ([0.0, 0.1, 0.5], 20),
    "a gap is no fall": ([0.0, 0.6, NAN, 0.7], 10),
    "a gap is no rise": ([0.0, NAN, 0.7], 20),
    "only gaps": ([NAN, NAN], None),
    "nothing": ([], None),
}


def slow_crossing(tokens: list, values: list, chance: float, ceiling: float, share: float):
    """Try every measured point in turn: it and all measured points after it must have reached the goal."""
    goal = chance + share * (ceiling - chance)
    points = [(token, value) for token, value in zip(tokens, values, strict=True) if not math.isnan(value)]
    for index, (token, _) in enumerate(points):
        later = [value for _, value in points[index:]]
        if all(value >= goal if ceiling >= chance else value <= goal for value in later):
            return token
    return None


@pytest.mark.parametrize(("values", "expected"), CASES.values(), ids=CASES)
def test_crossing_table(values, expected):
    tokens = [10 * index for index in range(len(values))]
    assert crossing(tokens, values, chance=0.0, ceiling=1.0) == expected


@pytest.mark.parametrize(("values", "expected"), CASES.values(), ids=CASES)
def test_a_score_that_falls_crosses_like_its_mirror_image(values, expected):
    tokens = [10 * index for index in range(len(values))]
    assert crossing(tokens, [8 - 8 * value for value in values], chance=8.0, ceiling=0.0) == expected


EIGHTHS = st.integers(-8, 16).map(lambda number: number / 8)


@given(st.lists(EIGHTHS | st.just(NAN), max_size=12), EIGHTHS, EIGHTHS, st.sampled_from([0.25, 0.5, 0.75]))
def test_crossing_equals_a_slow_search(values, chance, ceiling, share):
    tokens = [7 * index for index in range(len(values))]
    assert crossing(tokens, values, chance, ceiling, share) == slow_crossing(tokens, values, chance, ceiling, share)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_higher_share_is_not_crossed_earlier(values):
    tokens = list(range(len(values)))
    found = [crossing(tokens, values, 0.0, 1.0, share) for share in (0.25, 0.5, 0.75)]
    positions = [len(values) if token is None else token for token in found]
    assert positions == sorted(positions)
