"""When a score crosses, against a slow search; medians over runs of which some never cross."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.experiments.statistics import crossing, median_interval

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


# --- between two points ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "share", "expected"), [
    ([0.0, 1.0], 0.5, 5.0), ([0.0, 1.0], 0.9, 9.0), ([0.0, 0.4, 0.6], 0.5, 15.0), ([0.0, 0.6, 0.4, 0.6], 0.5, 25.0),
    ([0.8, 0.9], 0.5, 0.0), ([0.0, 0.5, 0.9], 0.5, 10.0), ([0.0, NAN, 1.0], 0.5, 10.0), ([NAN, 0.7], 0.5, 10.0),
    ([0.0, 0.9, 0.1], 0.5, None),
])  # fmt: skip
def test_a_crossing_between_two_points_lies_on_their_line(values, share, expected):
    tokens = [10 * index for index in range(len(values))]
    found = crossing(tokens, values, 0.0, 1.0, share, between=True)
    assert found == (expected if expected is None else pytest.approx(expected))
    mirrored = crossing(tokens, [8 - 8 * value for value in values], 8.0, 0.0, share, between=True)
    assert mirrored == (expected if expected is None else pytest.approx(expected))


@given(st.lists(EIGHTHS | st.just(NAN), max_size=12), EIGHTHS, EIGHTHS, st.sampled_from([0.25, 0.5, 0.75]))
def test_a_crossing_between_points_is_within_one_step_of_the_measured_one(values, chance, ceiling, share):
    tokens = [7 * index for index in range(len(values))]
    measured = crossing(tokens, values, chance, ceiling, share)
    found = crossing(tokens, values, chance, ceiling, share, between=True)
    if measured is None or found is None:
        assert measured is found
        return
    goal = chance + share * (ceiling - chance)
    known = [token for token, value in zip(tokens, values, strict=True) if not math.isnan(value)]
    before = max((token for token in known if token < measured), default=measured)
    assert before <= found <= measured
    if before < measured:
        assert np.interp(found, [before, measured], [values[before // 7], values[measured // 7]]) == pytest.approx(goal)


# --- medians --------------------------------------------------------------------------------------------------------

INF = float("inf")


@pytest.mark.parametrize(("times", "over", "expected"), [
    ([5, 5, 5], None, (5, 5, 5)), ([1, 2, 3], None, (2, 1, 3)), ([1, 2, INF], None, (2, 1, INF)),
    ([1, INF, INF], None, (INF, 1, INF)), ([INF, INF], None, (INF, INF, INF)), ([7], None, (7, NAN, NAN)),
    ([2, 2], [4, 4], (0.5, 0.5, 0.5)), ([2], [4, 4], (0.5, NAN, NAN)), ([2, 2], [4], (0.5, NAN, NAN)),
    ([INF, INF], [4, 4], (INF, INF, INF)), ([4, 4], [INF, INF], (0, 0, 0)), ([INF, INF], [INF, INF], (NAN, NAN, NAN)),
    ([4, 4], [0, 0], (INF, INF, INF)),
])  # fmt: skip
def test_median_and_interval(times, over, expected):
    found = median_interval(np.array(times, float), None if over is None else np.array(over, float))
    assert found == pytest.approx(expected, nan_ok=True)


def test_an_interval_narrows_with_more_seeds_and_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered, widths = 0, {5: 0.0, 20: 0.0}
    for _ in range(60):
        for count in widths:
            median, low, high = median_interval(random.lognormal(size=count), draws=200)
            assert low <= median <= high
            widths[count] += high - low
            covered += count == 20 and low <= 1 <= high
    assert widths[20] < widths[5] / 1.5
    assert 50 <= covered <= 60


def test_a_ratio_of_medians_is_drawn_independently_and_repeats():
    random = np.random.default_rng(1)
    slow, fast = 2 * random.lognormal(0, 0.2, size=12), random.lognormal(0, 0.2, size=12)
    ratio, low, high = median_interval(slow, fast)
    assert ratio == np.median(slow) / np.median(fast) and low < 2 < high and low > 1.3
    assert median_interval(slow, fast) == (ratio, low, high)
    same = median_interval(slow, slow)
    assert same[0] == 1 and same[1] < 1 < same[2]  # two samples that happen to be equal are not known to be
