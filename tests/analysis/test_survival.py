"""Kaplan-Meier against a hand-made table and a slow product, fractions and restricted means, and what every interval covers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.analysis.statistics import mean_interval, median_interval
from playground.analysis.survival import (
    Times,
    fraction_formed,
    kaplan_meier,
    logrank_p,
    median_time,
    restricted_mean,
    times_of,
)


def test_kaplan_meier_of_a_table_made_by_hand():
    """Ten runs; events at 2, 3 (two), 5, 8; ends without the event at 3, 4, 6, 9, 9.

    | time | at risk | events | share after         |
    |------|---------|--------|---------------------|
    | 2    | 10      | 1      | 9/10                |
    | 3    | 9       | 2      | 9/10 x 7/9 = 7/10   |
    | 5    | 5       | 1      | 7/10 x 4/5 = 14/25  |
    | 8    | 3       | 1      | 14/25 x 2/3 = 28/75 |
    """
    found = times_of([2, 3, 3, None, None, 5, None, 8, None, None], [9, 9, 9, 3, 4, 9, 6, 9, 9, 9])
    curve = kaplan_meier(found)
    assert curve.at.tolist() == [2, 3, 5, 8]
    np.testing.assert_allclose(curve.share, [9 / 10, 7 / 10, 14 / 25, 28 / 75])
    assert curve.censored.tolist() == [3, 4, 6, 9, 9]
    # The log-log interval after the first event by hand: variance of log S is 1 / (10 x 9).
    half = 1.959964 * math.sqrt(1 / 90) / math.log(9 / 10)
    np.testing.assert_allclose(
        [curve.low[0], curve.high[0]], sorted([0.9 ** math.exp(half), 0.9 ** math.exp(-half)]), rtol=1e-5
    )


RUNS = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=9)


def _slow_share(runs: list[tuple[int, bool]], time: float) -> float:
    """The product over event times up to `time` of (1 - events / runs still seen)."""
    share = 1.0
    for at in sorted({event for event, reached in runs if reached and event <= time}):
        events = sum(reached and event == at for event, reached in runs)
        share *= 1 - events / sum(event >= at for event, _ in runs)
    return share


@given(RUNS)
def test_kaplan_meier_is_the_product_over_events(runs):
    found = times_of([time if reached else None for time, reached in runs], [time for time, _ in runs])
    curve = kaplan_meier(found)
    assert curve.at.tolist() == sorted({time for time, reached in runs if reached})
    np.testing.assert_allclose(curve.share, [_slow_share(runs, time) for time in curve.at], atol=1e-12)


def test_runs_without_the_event_are_never_left_out():
    found = times_of([4.0, None, 6.0, None, 5.0, 7.0], [10.0] * 6)
    assert fraction_formed(found)[0] == 4 / 6
    assert median_time(found) == (6.5, 4.0, math.inf)
    assert restricted_mean(found, 10.0)[0] == pytest.approx((4 + 10 + 6 + 10 + 5 + 7) / 6)
    with pytest.raises(ValueError, match="seen for less than 12"):
        restricted_mean(found, 12.0)
    nothing = times_of([], [])
    assert math.isnan(fraction_formed(nothing)[0]) and math.isnan(logrank_p(nothing, found))
    assert len(kaplan_meier(times_of([None], [3.0])).at) == 0


def test_times_are_checked():
    with pytest.raises(ValueError, match="one entry of each"):
        Times(times=np.ones(2), reached=np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="not finite"):
        times_of([math.inf], [2.0])


def test_the_log_rank_test_of_a_table_made_by_hand():
    """Times 1, 3 against 2, 4: at 1, 2, 3, 4 the first group expects 1/2, 1/3, 1/2, 0 events and has 1, 0, 1, 0."""
    expected, variance = 1 / 2 + 1 / 3 + 1 / 2, 1 / 4 + 2 / 9 + 1 / 4
    statistic = (2 - expected) / math.sqrt(variance)
    two_sided = math.erfc(abs(statistic) / math.sqrt(2))
    found = logrank_p(times_of([1.0, 3.0], [9.0, 9.0]), times_of([2.0, 4.0], [9.0, 9.0]))
    assert found == pytest.approx(two_sided)


# --- coverage ---------------------------------------------------------------------------------------------------------------

SAMPLES = 2000


def _share_covered(intervals: list[tuple[float, float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for _, low, high in intervals]))


@pytest.mark.parametrize("seeds", [3, 5, 8, 16])
def test_t_intervals_cover_95_percent(seeds):
    """Means of scores, and geometric means of ratios (their logarithms are what the interval is made of)."""
    drawn = np.random.default_rng(seeds).normal(0.3, 2.0, (SAMPLES, seeds))
    assert 0.93 <= _share_covered([mean_interval(row) for row in drawn], 0.3) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5, 8, 16])
def test_restricted_means_cover_95_percent(seeds):
    """Times spread normally around 2, and a horizon that one run in 20 does not reach."""
    drawn = np.random.default_rng(seeds).normal(2.0, 0.3, (SAMPLES, seeds)).clip(0.0)
    horizon = 2.0 + 1.645 * 0.3
    truth = float(np.minimum(np.random.default_rng(0).normal(2.0, 0.3, 10**6), horizon).mean())
    intervals = [
        restricted_mean(times_of([t if t < 2.5 else None for t in row], [2.5] * seeds), horizon) for row in drawn
    ]
    assert 0.93 <= _share_covered(intervals, truth) <= 0.97


@pytest.mark.parametrize("seeds", [6, 8, 16])
def test_exact_intervals_cover_at_least_95_percent(seeds):
    """Their labels say "at least": ranks are whole numbers. Censoring changes nothing."""
    rng = np.random.default_rng(seeds)
    drawn = rng.exponential(1.0, (SAMPLES, seeds))
    drawn[drawn > 2.0] = np.inf
    assert _share_covered([median_interval(row) for row in drawn], math.log(2)) >= 0.945
    formed = rng.random((SAMPLES, seeds)) < 0.7
    shares = [fraction_formed(Times(times=np.ones(seeds), reached=row)) for row in formed]
    assert _share_covered(shares, 0.7) >= 0.945
