"""Means over seeds and their t intervals: against scipy's, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from playground.figures.aggregate import mean_and_band

TABLES = st.tuples(st.integers(2, 6), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100, width=32))
)


@settings(max_examples=25, deadline=None)
@given(TABLES, st.sampled_from([0.5, 0.8, 0.95]))
def test_equals_the_interval_of_scipy_point_by_point(values, level):
    mean, low, high = mean_and_band(values, level=level)
    for point in range(values.shape[1]):
        column = values[:, point]
        assert mean[point] == pytest.approx(np.mean(column), abs=1e-9)
        spread = column.std(ddof=1)
        if spread < 1e-9:
            assert (low[point], high[point]) == pytest.approx((mean[point], mean[point]), abs=1e-6)
            continue
        expected = stats.t.interval(level, len(column) - 1, loc=column.mean(), scale=stats.sem(column))
        assert (low[point], high[point]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_point_does_not_depend_on_its_neighbours():
    values = np.random.default_rng(0).normal(size=(5, 7))
    whole = np.stack(mean_and_band(values))
    columns = [np.stack(mean_and_band(values[:, [point]])) for point in range(7)]
    np.testing.assert_allclose(whole, np.concatenate(columns, axis=1))


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[3.0, 3.0], [3.0, 3.0]]], ids=["one seed", "equal seeds"])
def test_without_spread_the_band_is_the_mean(values):
    mean, low, high = mean_and_band(np.array(values))
    assert mean.tolist() == low.tolist() == high.tolist() == values[0]


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16])
def test_it_covers_the_true_mean_as_often_as_it_says(count):
    values = np.random.default_rng(0).normal(size=(count, 20_000))
    _, low, high = mean_and_band(values)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("count", "least"), [(5, 0.91), (8, 0.91), (16, 0.92)])
def test_of_skewed_values_it_covers_a_little_less(count, least):
    """What pages say of it holds for normally spread values; for log-normal ones with spread 0.5 it is this."""
    values = np.random.default_rng(0).lognormal(0, 0.5, size=(count, 20_000))
    _, low, high = mean_and_band(values)
    truth = np.exp(0.125)
    assert least < np.mean((low <= truth) & (high >= truth)) < 0.96
