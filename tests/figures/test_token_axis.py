"""Training tokens along an axis."""

import math

import numpy as np
import pytest

from playground.figures.token_axis import ROOM, TokenAxis


def axis(**changes) -> TokenAxis:
    return TokenAxis(**({"log": True, "first": 4096.0, "last": 2_867_200.0} | changes))


def test_a_logarithm_has_no_zero():
    np.testing.assert_array_equal(axis().at(np.array([0, 4096, 8192])), [2048, 4096, 8192])
    np.testing.assert_array_equal(axis(log=False).at(np.array([0, 4096])), [0, 4096])


def test_the_step_before_the_first_is_called_0():
    layout = axis().layout
    assert layout["ticktext"] == ["0", "10k", "100k", "1M"]
    assert layout["tickvals"] == [2048, 1e4, 1e5, 1e6]
    assert layout["range"][0] < math.log10(2048) < math.log10(2_867_200) < layout["range"][1]


def test_names_have_room_behind_the_last_point():
    low, high = axis(log=False).layout["range"]
    assert low < 0 and high == pytest.approx(2_867_200 * (1 + ROOM))


def test_a_run_of_one_evaluation_has_an_axis():
    for log in (True, False):
        low, high = axis(log=log, first=1.0, last=1.0).layout["range"]
        assert low < high


def test_shares_of_the_way():
    assert axis(log=False).share(2_867_200 / 4) == 0.25
    assert axis().share(2048) == 0 and axis().share(2_867_200) == pytest.approx(1)
    assert axis().share(math.sqrt(2048 * 2_867_200)) == pytest.approx(0.5)
