"""Effects over pairs of seeds: ratios with runs that never got there, tests by hand, Holm, and what a number of seeds can show."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.analysis.effects import difference_of_scores, formed_p, holm, paired_p, ratio_of_times
from playground.analysis.survival import times_of


def test_a_ratio_is_paired_by_seed():
    """Every pair is 2 to 1, though the times themselves spread by a factor of 16."""
    reference = [1.0, 2.0, 4.0, 8.0, 16.0, 3.0]
    effect = ratio_of_times(times_of([2 * time for time in reference], [99.0] * 6), times_of(reference, [99.0] * 6))
    assert effect.estimate == effect.median == pytest.approx(2.0)
    assert effect.p == pytest.approx(2 / 2**6) and effect.horizon is None
    with pytest.raises(ValueError, match="2 and 1 runs"):
        ratio_of_times(times_of([1.0, 2.0], [9.0, 9.0]), times_of([1.0], [9.0]))


def test_a_run_that_never_got_there_counts_up_to_the_common_horizon():
    arm = times_of([None, 6.0, 8.0], [10.0, 10.0, 10.0])
    reference = times_of([5.0, 3.0, 4.0], [20.0, 20.0, 20.0])
    effect = ratio_of_times(arm, reference)
    assert effect.horizon == 10.0 and effect.estimate == pytest.approx(2.0)
    later = times_of([None, 6.0, 8.0], [10.0, 10.0, 7.0])  # one run is known up to 8 only because it formed there
    assert ratio_of_times(later, reference).horizon == 10.0


def test_the_permutation_test_tries_all_signs():
    values = np.array([0.5, -0.2, 0.9, 0.4, 0.1])
    sums = [abs(np.dot(signs, values)) for signs in itertools.product([1, -1], repeat=len(values))]
    assert paired_p(values) == pytest.approx(np.mean(np.array(sums) >= abs(values.sum()) - 1e-12))
    assert math.isnan(paired_p(np.array([1.0]))) and paired_p(np.zeros(4)) == 1.0
    assert paired_p(np.ones(20)) == paired_p(np.ones(20)) < 1e-3


def test_five_seeds_decide_nothing_and_eight_do():
    assert paired_p(np.full(5, 0.7)) == pytest.approx(1 / 16)
    assert paired_p(np.full(8, 0.7)) == pytest.approx(1 / 128)


def test_the_fraction_formed_is_compared_in_pairs():
    arm, reference = times_of([1.0, 1.0, None, None], [9.0] * 4), times_of([1.0, None, None, None], [9.0] * 4)
    assert formed_p(arm, reference) == 1.0  # one pair differs
    assert formed_p(arm, arm) == 1.0


P_VALUES = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=6)


@given(P_VALUES)
def test_holm_against_its_definition(values):
    """A hypothesis is rejected at level a if all with smaller p values are, and its own p is at most a / (tests left)."""
    known = sorted(p for p in values if not math.isnan(p))
    for p, adjusted in zip(values, holm(values), strict=True):
        if math.isnan(p):
            assert math.isnan(adjusted)
            continue
        expected = max(min(1.0, (len(known) - rank) * each) for rank, each in enumerate(known) if each <= p)
        assert adjusted == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [3, 5, 8, 16])
def test_ratios_cover_95_percent(seeds):
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(1500):
        base = rng.lognormal(0.0, 0.5, seeds)
        ratios = base * 1.4 * rng.lognormal(0.0, 0.3, seeds)
        arm, reference = times_of(ratios.tolist(), [1e3] * seeds), times_of(base.tolist(), [1e3] * seeds)
        logs = np.log(arm.times / reference.times)
        effect_low, effect_high = _interval(logs)
        covered += effect_low <= 1.4 <= effect_high
    assert 0.93 <= covered / 1500 <= 0.97


def _interval(logs):
    """The interval of `ratio_of_times`, without its tests, which take most of the time."""
    from playground.analysis.statistics import mean_interval

    _, low, high = mean_interval(logs)
    return math.exp(low), math.exp(high)


def test_the_interval_of_a_ratio_is_that_of_its_logarithms():
    arm, reference = times_of([2.0, 3.0, 5.0], [9.0] * 3), times_of([1.0, 2.0, 2.0], [9.0] * 3)
    effect = ratio_of_times(arm, reference)
    assert (effect.low, effect.high) == pytest.approx(_interval(np.log([2.0, 1.5, 2.5])))


@pytest.mark.parametrize("seeds", [5, 8])
def test_the_detectable_effect_is_found_four_times_in_five(seeds):
    """In a simulation with the spread that the effect is computed from, a t interval excludes 0 in about 80% of samples."""
    rng = np.random.default_rng(seeds)
    first = difference_of_scores(rng.normal(0, 1, seeds), np.zeros(seeds))
    spread = first.detectable / (first.high - first.estimate)  # free of the sample's own spread
    from scipy import stats

    degrees = seeds - 1
    assert spread == pytest.approx(1 + stats.t.ppf(0.8, degrees) / stats.t.ppf(0.975, degrees))
    sigma, found = 1.0, 0
    size = (stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)) * sigma / math.sqrt(seeds)
    drawn = rng.normal(size, sigma, (4000, seeds))
    half = stats.t.ppf(0.975, degrees) * drawn.std(axis=1, ddof=1) / math.sqrt(seeds)
    found = np.mean(drawn.mean(axis=1) - half > 0)
    assert 0.75 <= found <= 0.87
