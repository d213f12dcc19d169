"""Means over seeds and their bootstrap intervals, against a slow loop over the same draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from playground.figures.aggregate import mean_and_band

TABLES = st.tuples(st.integers(2, 6), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100, width=32))
)


def slow_band(values: np.ndarray, level: float, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Resample the seeds `draws` times, take the mean of each sample, cut off both tails."""
    count = len(values)
    picks = np.random.default_rng(seed).integers(0, count, size=(draws, count))
    means = np.array([np.mean([values[pick] for pick in sample], axis=0) for sample in picks])
    return np.quantile(means, (1 - level) / 2, axis=0), np.quantile(means, (1 + level) / 2, axis=0)


@settings(max_examples=25, deadline=None)
@given(TABLES, st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 3))
def test_equals_a_loop_over_resampled_seeds(values, level, seed):
    mean, low, high = mean_and_band(values, level=level, draws=60, seed=seed)
    np.testing.assert_allclose(mean, np.mean(values, axis=0), atol=1e-9)
    slow_low, slow_high = slow_band(values, level, 60, seed)
    np.testing.assert_allclose(low, slow_low, atol=1e-9)
    np.testing.assert_allclose(high, slow_high, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_the_band_lies_within_the_values_and_a_wider_level_gives_a_wider_band(values):
    _, low, high = mean_and_band(values, draws=100)
    _, inner_low, inner_high = mean_and_band(values, level=0.5, draws=100)
    slack = 1e-9
    assert (values.min(axis=0) - slack <= low).all() and (high <= values.max(axis=0) + slack).all()
    assert (low <= inner_low + slack).all() and (inner_high <= high + slack).all()


def test_many_seeds_equal_the_loop_as_well_and_a_second_time():
    values = np.random.default_rng(0).normal(size=(300, 3))
    slow_low, slow_high = slow_band(values, 0.95, 50, 0)
    for _ in range(2):  # it is remembered
        mean, low, high = mean_and_band(values, draws=50)
        np.testing.assert_allclose(mean, values.mean(axis=0))
        np.testing.assert_allclose(low, slow_low)
        np.testing.assert_allclose(high, slow_high)
    changed = values + np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(mean_and_band(changed, draws=50)[1], slow_low + np.array([0.0, 1.0, 0.0]))


def test_a_point_does_not_depend_on_its_neighbours():
    values = np.random.default_rng(0).normal(size=(5, 7))
    whole = np.stack(mean_and_band(values))
    columns = [np.stack(mean_and_band(values[:, [point]])) for point in range(7)]
    np.testing.assert_allclose(whole, np.concatenate(columns, axis=1))


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[3.0, 3.0], [3.0, 3.0]]], ids=["one seed", "equal seeds"])
def test_without_spread_the_band_is_the_mean(values):
    mean, low, high = mean_and_band(np.array(values))
    assert mean.tolist() == low.tolist() == high.tolist() == values[0]


def test_it_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 400))
    _, low, high = mean_and_band(values)
    covered = np.mean((low <= 0) & (high >= 0))
    assert 0.86 < covered < 0.97
