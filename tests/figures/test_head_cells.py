"""Cells of head maps: rows in the order of the layers, blanks, numbers, what stands beside the pointer."""

import numpy as np
import pytest

from playground.figures.head_cells import (
    MOST_NUMBERS,
    Cells,
    brief,
    heat_map,
    layer_order,
    letters,
    score_cells,
    short_layer,
    spread,
)
from tests.figures.test_heads import scores


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ([], ()),
        (["future_heads.0", "blocks.0"], ("blocks.0", "future_heads.0")),
        (["blocks.10", "blocks.2", "blocks.2"], ("blocks.2", "blocks.10")),
        (["future_heads.1", "blocks.1", "future_heads.0"], ("blocks.1", "future_heads.0", "future_heads.1")),
    ],
)
def test_layers_in_order(given, ordered):
    assert layer_order(given) == ordered


@pytest.mark.parametrize(("layer", "name"), [("blocks.0", "T0"), ("blocks.11", "T11"), ("future_heads.0", "F1")])
def test_short_names(layer, name):
    assert short_layer(layer) == name


def test_rows_of_another_order_with_blanks():
    table = scores(layers=("blocks.0", "future_heads.0"))
    cells = score_cells(table, "prefix_matching", ("blocks.0", "blocks.1", "future_heads.0"), 40)
    np.testing.assert_array_equal(cells.values[[0, 2]], table.prefix_matching)
    assert np.isnan(cells.values[1]).all() and not cells.told[1].any() and (cells.hover[1] == "").all()
    np.testing.assert_array_equal(cells.told[[0, 2]], table.prefix_matching > table.null_prefix_matching)


def test_the_hover_text_names_head_score_null_band_ideal_and_step():
    table = scores()
    cells = score_cells(table, "ahead_2", table.layers, 4000)
    value, null = table.score("ahead_2")[2, 1], table.null("ahead_2")[2, 1]
    assert cells.hover[2, 1] == (
        f"<b>future head 1, head 1</b><br>2-ahead induction {value:.3f}<br>null band (99%) {null:.3f}, ideal 1.0<br>step 4,000"
    )


def test_spread_keeps_the_kind_of_values():
    assert spread(np.array([[True], [False]]), [1, None, 0], False).tolist() == [[False], [False], [True]]


def cells(n_heads: int = 2, signed: bool = False) -> Cells:
    values = np.linspace(-1 if signed else 0, 1, 2 * n_heads).reshape(2, n_heads)
    told = np.ones_like(values, dtype=bool)
    return Cells(
        layers=("blocks.0", "future_heads.0"),
        values=values,
        told=told,
        hover=values.astype(str).astype(object),
        signed=signed,
    )


def test_letters_stand_on_their_cells_in_a_colour_that_reads():
    trace = letters(cells())
    assert list(zip(trace["y"], trace["x"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert trace["text"] == [".00", ".33", ".67", "1.0"]
    assert trace["textfont"]["color"] == ["#ffffff", "#ffffff", "#000000", "#000000"]


def test_differences_have_a_sign_and_their_own_colours():
    shown = cells(signed=True)
    assert letters(shown)["text"] == ["−1.0", "−.33", "+.33", "+1.0"]
    assert heat_map(shown)["coloraxis"] == "coloraxis2"


def test_too_many_heads_leave_no_room_for_numbers():
    assert letters(cells(MOST_NUMBERS))["text"]
    assert not letters(cells(MOST_NUMBERS + 1))["text"]


def test_what_is_not_there_has_no_number():
    shown = cells()
    shown.values[0, 0] = np.nan
    assert len(letters(shown)["text"]) == 3


@pytest.mark.parametrize(("value", "text"), [(0.0, ".00"), (0.996, "1.0"), (-0.004, "−.00"), (0.125, ".12")])
def test_brief_numbers(value, text):
    assert brief(value) == text
