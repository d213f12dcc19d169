"""When a score crosses, against a slow search; medians over runs of which some never cross, and how often intervals hold them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.analysis.statistics import crossing, median_interval, ratio_interval

NAN = float("nan")
CASES = {
    "stays above": ([0.0, 0.6, 0.9], 10 * 5 / 6),
    "falls back once": ([0.0, 0.6, 0.4, 0.6], 25),
    "falls back for good": ([0.0, 0.9, 0.4], None),
    "never": ([0.0, 0.1, 0.4], None),
    "from the start": ([0.8, 0.9, 1.0], 0),
    "exactly half": ([0.0, 0.5, 0.5], 10),
    "at the last": ([0.0, 0.1, 0.5], 20),
    "a gap is no fall": ([0.0, 1.0, NAN, 0.7], 5),
    "a gap is no rise": ([0.0, NAN, 1.0], 10),
    "after a gap": ([NAN, 0.7], 10),
    "only gaps": ([NAN, NAN], None),
    "nothing": ([], None),
}


def slow_crossing(tokens: list, values: list, chance: float, ceiling: float, share: float):
    """Try every measured point in turn: it and all later ones must have reached the goal; then bisect the line before it."""
    goal = chance + share * (ceiling - chance)
    sign = 1 if ceiling >= chance else -1
    points = [(token, value) for token, value in zip(tokens, values, strict=True) if not math.isnan(value)]
    for index, (token, _) in enumerate(points):
        if not all(sign * value >= sign * goal for _, value in points[index:]):
            continue
        if index == 0:
            return token
        ends = [points[index - 1][0], token]
        xs, ys = zip(*points[index - 1 : index + 1], strict=True)
        for _ in range(80):
            middle = sum(ends) / 2
            ends[bool(sign * np.interp(middle, xs, ys) >= sign * goal)] = middle
        return ends[1]
    return None


@pytest.mark.parametrize(("values", "expected"), CASES.values(), ids=CASES)
def test_crossing_table(values, expected):
    tokens = [10 * index for index in range(len(values))]
    found = crossing(tokens, values, chance=0.0, ceiling=1.0)
    assert found == (expected if expected is None else pytest.approx(expected))
    mirrored = crossing(tokens, [8 - 8 * value for value in values], chance=8.0, ceiling=0.0)
    assert mirrored == (expected if expected is None else pytest.approx(expected))


EIGHTHS = st.integers(-8, 16).map(lambda number: number / 8)


@given(st.lists(EIGHTHS | st.just(NAN), max_size=12), EIGHTHS, EIGHTHS, st.sampled_from([0.25, 0.5, 0.75]))
def test_crossing_equals_a_slow_search(values, chance, ceiling, share):
    tokens = [7 * index for index in range(len(values))]
    found = crossing(tokens, values, chance, ceiling, share)
    slow = slow_crossing(tokens, values, chance, ceiling, share)
    assert found == (slow if slow is None else pytest.approx(slow))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_higher_share_is_not_crossed_earlier(values):
    tokens = list(range(len(values)))
    found = [crossing(tokens, values, 0.0, 1.0, share) for share in (0.25, 0.5, 0.75)]
    positions = [len(values) if token is None else token for token in found]
    assert positions == sorted(positions)


# --- medians --------------------------------------------------------------------------------------------------------

INF = float("inf")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([5, 5, 5, 5, 5, 5], (5, 5, 5)),
        ([1, 2, 3, 4, 5, 6], (3.5, 1, 6)),
        ([6, 5, 4, INF, 2, 1], (4.5, 1, INF)),
        ([1, 2, INF, INF, INF, INF], (INF, 1, INF)),
        ([INF] * 6, (INF, INF, INF)),
        ([1, 2, 3], (2, NAN, NAN)),
        ([7], (7, NAN, NAN)),
        ([], (NAN, NAN, NAN)),
        ([1, 2, 3, INF], (2.5, NAN, NAN)),
        ([1, INF], (INF, NAN, NAN)),
        (list(range(1, 10)), (5, 2, 8)),
        (list(range(1, 17)), (8.5, 4, 13)),
    ],
)
def test_median_and_interval(times, expected):
    assert median_interval(np.array(times, float)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("times", "base", "expected"),
    [
        ([2, 4, 6], [1, 2, 2], (2, NAN, NAN)),
        ([2] * 6, [4] * 6, (0.5, 0.5, 0.5)),
        ([INF, 1, 1, 1, 1, 1], [1] * 6, (1, 1, INF)),
        ([1] * 6, [INF, 1, 1, 1, 1, 1], (1, 0, 1)),
        ([INF, 1, 1, 1, 1, 1], [INF, 1, 1, 1, 1, 1], (1, 0, INF)),  # of the first pair nothing is known
        ([INF] * 6, [INF] * 6, (NAN, 0, INF)),
        ([1, INF, INF], [1, INF, INF], (NAN, NAN, NAN)),
        ([], [], (NAN, NAN, NAN)),
        ([4, 4, 4, 4, 4, 4], [0] * 6, (INF, INF, INF)),
    ],
)
def test_ratio_of_pairs_and_interval(times, base, expected):
    assert ratio_interval(np.array(times, float), np.array(base, float)) == pytest.approx(expected, nan_ok=True)


def share_covered(draw, truth: float, interval, trials: int = 3000) -> float:
    """In how many samples the interval holds the truth."""
    random = np.random.default_rng(0)
    found = [interval(draw(random)) for _ in range(trials)]
    return float(np.mean([low <= truth <= high for _, low, high in found]))


@pytest.mark.parametrize("count", [6, 8, 16])
def test_the_interval_of_a_median_covers_what_it_says(count):
    """At least 95%, of any distribution and with a fifth of the times beyond the end; with eight it is 99%."""

    def censored(random: np.random.Generator) -> np.ndarray:
        times = random.lognormal(0, 1, size=count)
        return np.where(times > np.exp(0.84), INF, times)

    for draw in (lambda random: random.lognormal(0, 1, size=count), censored):
        assert 0.94 < share_covered(draw, 1.0, median_interval) < 0.995


@pytest.mark.parametrize("count", [6, 8, 16])
def test_the_interval_of_a_ratio_covers_what_it_says(count):
    """Pairs that share what makes a seed slow or fast, and of which some have no ratio."""

    def pairs(random: np.random.Generator) -> np.ndarray:
        shared = random.lognormal(0, 1, size=count)
        times, base = (shared * random.lognormal(0, 0.3, size=count) for _ in range(2))
        both = np.stack([1.5 * times, base])
        return np.where(both > 4, INF, both)

    assert share_covered(pairs, 1.5, lambda both: ratio_interval(*both)) > 0.94


def test_pairs_tell_more_than_the_same_times_apart():
    random = np.random.default_rng(0)
    shared = random.lognormal(0, 1, size=8)
    _, low, high = ratio_interval(1.3 * shared * random.lognormal(0, 0.05, size=8), shared)
    assert 1.1 < low < 1.3 < high < 1.5
