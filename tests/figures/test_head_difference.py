"""The difference of two runs, head by head."""

import numpy as np
import pytest

from playground.figures.head_difference import difference_cells, shared_layers
from tests.figures.test_heads import scores

DEEP, WIDE = ("blocks.0", "blocks.1", "future_heads.0"), ("blocks.0", "future_heads.0", "future_heads.1")
ROWS = ("blocks.0", "blocks.1", "future_heads.0", "future_heads.1")


def pair():
    return scores(1, DEEP), scores(2, WIDE)


def test_only_shared_layers_have_a_difference():
    left, right = pair()
    assert shared_layers(left, right) == ("blocks.0", "future_heads.0")
    cells = difference_cells(left, right, "prefix_matching", ROWS)
    assert np.isfinite(cells.values[[0, 2]]).all() and np.isnan(cells.values[[1, 3]]).all()
    assert cells.signed and not cells.told[[1, 3]].any()


def test_paired_by_number():
    left, right = pair()
    cells = difference_cells(left, right, "back_2", ROWS, pairing="number")
    np.testing.assert_allclose(cells.values[0], right.score("back_2")[0] - left.score("back_2")[0])
    np.testing.assert_allclose(cells.values[2], right.score("back_2")[1] - left.score("back_2")[2])


def test_paired_by_rank_a_shuffled_run_shows_no_difference():
    left, _ = pair()
    right, _ = pair()
    for values in (right.ahead, right.null_ahead):
        values[:] = values[:, :, [2, 0, 1]]
    cells = difference_cells(left, right, "prefix_matching", DEEP)
    np.testing.assert_array_equal(cells.values, np.zeros((3, 3)))
    assert np.abs(difference_cells(left, right, "prefix_matching", DEEP, pairing="number").values).max() > 0


@pytest.mark.parametrize("above", ["left", "right", "neither"])
def test_a_number_stands_where_one_of_the_two_exceeds_its_null_band(above):
    left, right = pair()
    for name, table in (("left", left), ("right", right)):
        table.null_prefix_matching[:] = 0.0 if name == above else 2.0
    told = difference_cells(left, right, "prefix_matching", ROWS).told
    assert told[[0, 2]].all() == (above != "neither") and told.any() == (above != "neither")


def test_the_hover_text_names_both_heads():
    left, right = pair()
    cells = difference_cells(left, right, "prefix_matching", ROWS, pairing="number")
    a, b = left.prefix_matching[2, 1], right.prefix_matching[1, 1]
    assert cells.hover[2, 1].startswith(f"<b>F1.1 right − F1.1 left</b><br>induction {b:.3f} − {a:.3f} = {b - a:+.3f}")


def test_runs_with_different_numbers_of_heads_compare_the_strongest():
    left, right = scores(1, DEEP, n_heads=4), scores(2, DEEP, n_heads=2)
    cells = difference_cells(left, right, "prefix_matching", DEEP)
    best = [-np.sort(-table.prefix_matching)[:, :2] for table in (left, right)]
    np.testing.assert_allclose(cells.values, best[1] - best[0])


def test_nan_is_never_taken_for_the_strongest():
    left, right = pair()
    left.prefix_matching[0, 1] = np.nan
    values = difference_cells(left, right, "prefix_matching", ROWS).values
    assert np.isfinite(values[0, :2]).all() and np.isnan(values[0, 2])
